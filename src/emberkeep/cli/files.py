"""cp: files and directories between this machine and microVMs."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from emberkeep.cli.shell import client, common, note, print_json, size

if TYPE_CHECKING:
    from emberkeep_sdk import MicroVM

_REMOTE: Final = re.compile(r"(?P<ref>[A-Za-z0-9][A-Za-z0-9_-]*):(?P<path>/.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Remote:
    """A path in a microVM."""

    ref: str
    path: str


@click.command(short_help="Copy files from or to a microVM.")
@click.argument("source")
@click.argument("target")
@common
def cp(source: str, target: str, *, as_json: bool) -> None:
    """Copy a file or directory: one side is here, the other one is MICROVM:/PATH.

    A copy goes into the target if that is a directory; "DIR/." means what is in DIR. "-" is
    standard input or output; a directory goes to standard output as a tar stream.
    """
    here, there = _remote(source), _remote(target)
    if bool(here) == bool(there):
        raise click.UsageError(
            "one side must be MICROVM:/PATH (absolute), the other one a path here"
        )
    with client() as ek:
        if there is not None:
            count = _upload(ek.get(there.ref), source, there.path)
        else:
            assert here is not None  # noqa: S101  one of them is
            count = _download(ek.get(here.ref), here.path, target)
    if as_json and target != "-":
        print_json({"source": source, "target": target, "bytes": count})
    elif sys.stderr.isatty():
        note(f"{size(count)} copied")


def _remote(text: str) -> Remote | None:
    match = _REMOTE.fullmatch(text)
    return Remote(match["ref"], match["path"]) if match else None


def _upload(vm: "MicroVM", source: str, path: str) -> int:
    if source != "-":
        return vm.files.upload(source, path)
    return vm.files.write(path, sys.stdin.buffer)


def _download(vm: "MicroVM", path: str, target: str) -> int:
    if target != "-":
        return vm.files.download(path, _same_folder(target))
    whole = vm.files.pack if vm.files.is_directory(path) else vm.files.stream
    count = 0
    with whole(path) as chunks:
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
            count += len(chunk)
    sys.stdout.buffer.flush()
    return count


def _same_folder(target: str) -> str:
    """Refuse a target below a folder that is not there."""
    parent = Path(target).absolute().parent
    if not parent.is_dir():
        raise click.UsageError(f"there is no directory {parent}")
    return target
