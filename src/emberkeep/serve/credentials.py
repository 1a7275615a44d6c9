"""The access key of a server: made at its first start, left where its users' clients look."""

import configparser
import hmac
import os
import re
import secrets
import string
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import structlog

from emberkeep.domain.errors import Corrupt, Unavailable
from emberkeep.serve.config import Home

FILE: Final = "credentials"
_ID: Final = re.compile(r"[A-Za-z0-9]{16,128}")
_SECRET: Final = re.compile(r"[A-Za-z0-9]{16,128}")
_FOLDERS: Final = (".config", "emberkeep")  # of a home: where the SDK looks

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """An access key in the style of AWS; its secret is in no representation."""

    access_key_id: str
    secret_access_key: str = field(repr=False)

    @classmethod
    def new(cls) -> Self:
        """Make one: 80 and 238 bits of randomness."""
        upper, letters = string.ascii_uppercase + "234567", string.ascii_letters + string.digits
        return cls(
            access_key_id="AKIA" + "".join(secrets.choice(upper) for _ in range(16)),
            secret_access_key="".join(secrets.choice(letters) for _ in range(40)),
        )

    @property
    def token(self) -> str:
        """What clients send as `Authorization: Bearer`."""
        return f"{self.access_key_id}.{self.secret_access_key}"

    def accepts(self, token: str) -> bool:
        """Tell whether `token` is right, in a time that does not depend on how wrong it is."""
        return hmac.compare_digest(token.encode(errors="replace"), self.token.encode())


def obtain(data: Path, *, endpoint: str, homes: Sequence[Home]) -> Credentials:
    """Return the access key of `data`, made if there is none, and leave copies in `homes`.

    Raises `Corrupt` for a file that cannot be read; a home that cannot be written is only logged.
    """
    ours = _read(data / FILE) or Credentials.new()
    text = _text(ours, endpoint)
    try:
        with _folder(data) as folder:
            _write(folder, text)
    except OSError as wrong:
        raise Unavailable(
            f"cannot write {data / FILE}: {wrong.strerror}",
            hint="choose a data folder that can be written: --data",
        ) from wrong
    for home in homes:
        try:
            _leave(home, text)
        except OSError as wrong:
            log.warning("credentials.not_left", home=str(home.path), reason=str(wrong))
    return ours


def _read(path: Path) -> Credentials | None:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        section = parser["default"]
        found = Credentials(
            access_key_id=section["aws_access_key_id"],
            secret_access_key=section["aws_secret_access_key"],
        )
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError) as wrong:
        raise _unreadable(path) from wrong
    if not _ID.fullmatch(found.access_key_id) or not _SECRET.fullmatch(found.secret_access_key):
        raise _unreadable(path)
    return found


def _unreadable(path: Path) -> Corrupt:
    return Corrupt(
        f"{path} does not hold an access key",
        hint="mend the file, or remove it for a new key at the next start",
    )


def _text(ours: Credentials, endpoint: str) -> str:
    return (
        "[default]\n"
        f"aws_access_key_id = {ours.access_key_id}\n"
        f"aws_secret_access_key = {ours.secret_access_key}\n"
        f"endpoint_url = {endpoint}\n"
    )


def _leave(home: Home, text: str) -> None:
    """Write a copy into `home`, owned by its user.

    Its user may be hostile to us (root under sudo): no link of theirs is followed.
    """
    with _folder(home.path) as start:
        theirs = os.fstat(start).st_uid != os.geteuid()
        outer, inner = _FOLDERS
        with (
            _inside(start, outer, home, nofollow=theirs) as config,
            _inside(config, inner, home, nofollow=theirs) as folder,
        ):
            _write(folder, text, owner=home)


@contextmanager
def _folder(path: Path) -> Generator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _inside(parent: int, name: str, owner: Home, *, nofollow: bool) -> Generator[int]:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
        made = True
    except FileExistsError:
        made = False
    flags = os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if made or nofollow else 0)
    fd = os.open(name, flags, dir_fd=parent)
    try:
        if made:
            os.fchown(fd, owner.uid, owner.gid)
        yield fd
    finally:
        os.close(fd)


def _write(folder: int, text: str, *, owner: Home | None = None) -> None:
    """Replace the file in `folder` at once: readers see the old or the new one."""
    name = f".{FILE}.{secrets.token_hex(8)}"
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            if owner:
                os.fchown(fd, owner.uid, owner.gid)
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.rename(name, FILE, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        raise
