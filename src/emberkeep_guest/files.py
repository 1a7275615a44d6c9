"""Operations on names in the container: stat, list, mkdir, remove, move."""

import json
import os
import shutil
import stat as st
from contextlib import suppress
from typing import Any, Final

from emberkeep_guest import paths, worker
from emberkeep_guest.agent import Agent, Call
from emberkeep_guest.errors import OperationFailed, os_failure

_MOST_ENTRIES: Final = 10_000
_MOST_BYTES: Final = 1_000_000  # of a list, so that it fits a message
_ENTRY_BYTES: Final = 160  # without its name and target
_TYPES: Final = {st.S_IFREG: "file", st.S_IFDIR: "directory", st.S_IFLNK: "symlink"}


async def stat(agent: Agent, call: Call) -> dict[str, Any]:
    """Describe one file; a symbolic link is not followed."""
    path = call.request.path()
    with paths.opened(agent.root, path, os.O_PATH | os.O_NOFOLLOW) as fd:
        found = os.fstat(fd)
        link = os.readlink("", dir_fd=fd) if st.S_ISLNK(found.st_mode) else None
    return {"entry": _entry(path.rstrip("/").rpartition("/")[2] or "/", found, link)}


async def list_(agent: Agent, call: Call) -> dict[str, Any]:
    """Describe what is in a directory, as far as it fits a message."""
    entries: list[dict[str, Any]] = []
    size = 0
    truncated = False
    path, flags = call.request.path(), os.O_RDONLY | os.O_DIRECTORY
    with paths.opened(agent.root, path, flags) as directory, os.scandir(directory) as found:
        for item in found:
            entry = _described(directory, item)
            if entry is None:
                continue
            size += _ENTRY_BYTES + len(json.dumps([item.name, entry.get("target")]))
            truncated = len(entries) >= _MOST_ENTRIES or size > _MOST_BYTES
            if truncated:
                break
            entries.append(entry)
    entries.sort(key=lambda entry: str(entry["name"]))
    return {"entries": entries, "truncated": truncated}


async def mkdir(agent: Agent, call: Call) -> dict[str, Any]:
    """Make a directory; with `parents` also those above, and it may be there already."""
    agent.must_not_be_frozen()
    path = call.request.path()
    mode = call.request.integer("mode", 0o755, most=0o7777)
    if call.request.flag("parents"):
        make_parents(agent.root, path, mode)
    else:
        with paths.parent(agent.root, path) as (directory, name), _about(path):
            os.mkdir(name, dir_fd=directory)
            os.chmod(name, mode, dir_fd=directory)
    return {}


def make_parents(root: int, path: str, mode: int = 0o755) -> None:
    """Make `path` and every directory above it that is missing."""
    missing: list[str] = []
    while True:
        try:
            with paths.opened(root, path, paths.DIRECTORY):
                break
        except OperationFailed as error:
            if error.kind != "not_found":
                raise
            missing.append(path)
            path = paths.split(path)[0]
    for place in reversed(missing):
        somebody_faster = suppress(FileExistsError)
        with paths.parent(root, place) as (directory, name), _about(place), somebody_faster:
            os.mkdir(name, dir_fd=directory)
            os.chmod(name, mode, dir_fd=directory)


async def remove(agent: Agent, call: Call) -> dict[str, Any]:
    """Remove a file or an empty directory; with `recursive` whatever is below it too."""
    agent.must_not_be_frozen()
    path = call.request.path()
    with paths.parent(agent.root, path) as (directory, name), _about(path):
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not st.S_ISDIR(found.st_mode):
            os.unlink(name, dir_fd=directory)
        elif not call.request.flag("recursive"):
            os.rmdir(name, dir_fd=directory)
        else:
            await worker.done(agent, lambda: shutil.rmtree(path))
    return {}


async def move(agent: Agent, call: Call) -> dict[str, Any]:
    """Rename; what is at the new place is replaced as rename(2) does."""
    agent.must_not_be_frozen()
    path, to = call.request.path(), call.request.path("to")
    source, target = paths.parent(agent.root, path), paths.parent(agent.root, to)
    with source as (old, name), target as (new, new_name), _about(path):
        os.rename(name, new_name, src_dir_fd=old, dst_dir_fd=new)
    return {}


class _about:  # noqa: N801  reads as a word of the sentence
    """Lets errors of the system name the path the caller used."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise os_failure(error, self._path) from None


def _described(directory: int, item: "os.DirEntry[str]") -> dict[str, Any] | None:
    try:
        link = os.readlink(item.name, dir_fd=directory) if item.is_symlink() else None
        return _entry(item.name, item.stat(follow_symlinks=False), link)
    except OSError:  # it has gone meanwhile
        return None


def _entry(name: str, found: os.stat_result, link: str | None) -> dict[str, Any]:
    entry = {
        "name": name,
        "type": _TYPES.get(st.S_IFMT(found.st_mode), "other"),
        "size": found.st_size,
        "mode": st.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
        "mtime": found.st_mtime,
    }
    if link is not None:
        entry["target"] = link
    return entry
