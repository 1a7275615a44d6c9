"""What an operation may fail with, and which kind of failure an errno is to the host."""

import errno
from typing import Final

from emberkeep_guest.messages import BadMessage, ErrorKind

_KINDS: Final[dict[int, ErrorKind]] = {
    errno.ENOENT: "not_found",
    errno.ESRCH: "not_found",
    errno.EEXIST: "exists",
    errno.ENOTEMPTY: "not_empty",
    errno.ENOTDIR: "not_a_directory",
    errno.EISDIR: "is_a_directory",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.EROFS: "denied",
    errno.ENOSPC: "no_space",
    errno.EDQUOT: "no_space",
    errno.EFBIG: "no_space",
    errno.EAGAIN: "exhausted",
    errno.ENOMEM: "exhausted",
    errno.ECONNREFUSED: "refused",
    errno.EBUSY: "refused",
    errno.ETXTBSY: "refused",
    errno.ETIMEDOUT: "timeout",
    errno.EINVAL: "invalid",
    errno.ENAMETOOLONG: "invalid",
    errno.ELOOP: "invalid",
    errno.EXDEV: "invalid",
    errno.E2BIG: "invalid",
    errno.ENOEXEC: "invalid",
    errno.ENXIO: "invalid",
}


class OperationFailed(Exception):
    """An operation cannot be done; the host is told `kind` and `message`."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.message = message


def failure_of(error: Exception) -> OperationFailed:
    """Return `error` as the host shall see it."""
    if isinstance(error, OperationFailed):
        return error
    if isinstance(error, OSError):
        return os_failure(error)
    if isinstance(error, BadMessage | EOFError | UnicodeError):
        return OperationFailed("invalid", str(error) or "the request ends too early")
    return OperationFailed("internal", f"{type(error).__name__}: {error}")


def os_failure(error: OSError, about: str | None = None) -> OperationFailed:
    """Return the failure for an error of the system, with what it is `about`."""
    subject = error.filename if about is None else about
    if isinstance(subject, bytes):
        subject = subject.decode(errors="replace")
    text = error.strerror or str(error)
    kind = _KINDS.get(error.errno or 0, "internal")
    return OperationFailed(kind, f"{subject}: {text}" if isinstance(subject, str) else text)
