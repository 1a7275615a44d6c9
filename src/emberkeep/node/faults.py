"""Failures of the host's files, told in our own words."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from emberkeep.domain.errors import NoSpace, Unavailable

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def told(doing: str) -> Iterator[None]:
    """Turn an OSError of the block into `NoSpace` or `Unavailable`."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        if error.errno in _FULL:
            raise NoSpace(
                f"the disk is full: {doing} failed{where}",
                hint="free some space below the data folder, then try again",
            ) from error
        raise Unavailable(
            f"{doing} failed: {error.strerror or error}{where}", hint="see: emberkeep doctor"
        ) from error
