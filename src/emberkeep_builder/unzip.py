"""Unpacks the archive into the build's context; the host has checked it, this bounds it anyway."""

import calendar
import os
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Final

_UNIX: Final = 3


def unpack(archive: Path, target: Path) -> None:
    """Unpack `archive` to the new directory `target`, with modes, times and symlinks."""
    target.mkdir()
    folders: list[tuple[Path, float]] = []
    with zipfile.ZipFile(archive) as source:
        links = []
        for entry in source.infolist():
            place = target / entry.filename
            if entry.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                place.chmod(_mode(entry) & 0o777 or 0o755)
                folders.append((place, _time(entry)))
            elif stat.S_ISLNK(_mode(entry)):
                links.append((entry, place))
            else:
                _file(source, entry, place)
        for entry, place in links:  # last: nothing is written through them
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(os.fsdecode(source.read(entry)))
    for place, seconds in reversed(folders):
        os.utime(place, (seconds, seconds))


def _file(source: zipfile.ZipFile, entry: zipfile.ZipInfo, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with source.open(entry) as stream, place.open("xb") as out:
        shutil.copyfileobj(stream, out, 1 << 20)
    place.chmod(_mode(entry) & 0o777 or 0o644)
    os.utime(place, (_time(entry), _time(entry)))


def _mode(entry: zipfile.ZipInfo) -> int:
    return entry.external_attr >> 16 if entry.create_system == _UNIX else 0


def _time(entry: zipfile.ZipInfo) -> float:
    return calendar.timegm((*entry.date_time, 0, 0, 0))
