"""Users and groups as the container's own files name them; what stands there may be anything."""

import os
import stat
from typing import Final

from emberkeep_guest import libc
from emberkeep_guest.errors import OperationFailed

_MOST: Final = 1 << 20  # of such a file
_LAST_ID: Final = 2**32 - 2
_DIGITS: Final = 10
_NAME, _UID, _GID, _HOME = 0, 2, 3, 5  # fields of passwd
_GROUP_ID, _MEMBERS = 2, 3  # fields of group
_read: dict[str, tuple[tuple[int, ...], list[list[str]]]] = {}  # by path: version, entries


class Login:
    """Who a process runs as."""

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def login(root: int, spec: str | None) -> Login:
    """Return who `spec` ("name", "uid", "name:group", "uid:gid"; None is root) is in `root`."""
    user, _, group = (spec or "0").partition(":")
    entry = _find_user(_lines(root, "/etc/passwd", 7), user)
    uid, gid, home = _account(entry, user)
    groups = _lines(root, "/etc/group", 4)
    if group:
        return Login(uid, _group(groups, group), [], home)
    name = entry[_NAME] if entry else None
    return Login(uid, gid, _memberships(groups, name) if name else [], home)


def names(root: int) -> dict[int, str]:
    """Return the names of the users of `root` by their ids."""
    entries = _lines(root, "/etc/passwd", 7)
    return {int(entry[_UID]): entry[_NAME] for entry in reversed(entries) if _is_id(entry[_UID])}


def _account(entry: list[str] | None, user: str) -> tuple[int, int, str]:
    if entry and _is_id(entry[_UID]) and _is_id(entry[_GID]):
        return int(entry[_UID]), int(entry[_GID]), entry[_HOME] or "/"
    if _is_id(user):
        return int(user), 0, "/root" if int(user) == 0 else "/"
    raise OperationFailed("not_found", f"there is no user {user[:80]!r} in the container")


def _find_user(entries: list[list[str]], user: str) -> list[str] | None:
    for field in (_NAME, _UID):
        for entry in entries:
            if entry[field] == user and (field == _NAME or _is_id(user)):
                return entry
    return None


def _group(entries: list[list[str]], group: str) -> int:
    for entry in entries:
        if entry[_NAME] == group and _is_id(entry[_GROUP_ID]):
            return int(entry[_GROUP_ID])
    if _is_id(group):
        return int(group)
    raise OperationFailed("not_found", f"there is no group {group[:80]!r} in the container")


def _memberships(entries: list[list[str]], name: str) -> list[int]:
    return [
        int(entry[_GROUP_ID])
        for entry in entries
        if _is_id(entry[_GROUP_ID]) and name in entry[_MEMBERS].split(",")
    ][:1000]


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS and int(text) <= _LAST_ID


def _lines(root: int, path: str, fields: int) -> list[list[str]]:
    """Return the entries of a file; it is read again only when it has changed."""
    try:
        fd = libc.open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return []
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return []
        version = (root, found.st_dev, found.st_ino, found.st_ctime_ns, found.st_size)
        known = _read.get(path)
        if known is None or known[0] != version:
            text = os.read(fd, _MOST).decode(errors="replace")
            entries = [line.split(":") for line in text.split("\n")]
            known = _read[path] = (version, [it for it in entries if len(it) >= fields])
    finally:
        os.close(fd)
    return known[1]
