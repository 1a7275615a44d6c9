"""The system calls the agent needs and Python 3.11 has no function for."""

import ctypes
import errno
import mmap
import os
import signal
from typing import Final

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

PR_SET_DUMPABLE: Final = 4
PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38

MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8

MCL_ALL_ON_FAULT: Final = 1 | 2 | 4  # what is there and what will be, once it is touched
POWER_OFF: Final = 0x4321FEDC
CTRL_ALT_DEL_OFF: Final = 0

_SYS_CLONE3: Final = 435  # the same numbers on every architecture since Linux 5.1
_SYS_CLOSE_RANGE: Final = 436
_SYS_OPENAT2: Final = 437
_CLONE_CHILD_SETTID: Final = 0x01000000
_CLONE_INTO_CGROUP: Final = 0x200000000
_CLOSE_RANGE_CLOEXEC: Final = 4
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_IN_ROOT: Final = 0x10
_RACES: Final = 32  # so often a rename may come between before a path is given up
_CAPABILITY_VERSION_3: Final = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_holding = ctypes.PyDLL(None, use_errno=True)  # keeps Python's lock during the call
_holding.syscall.restype = ctypes.c_long
_libc.setns.argtypes = [ctypes.c_int, ctypes.c_int]
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_CapabilityHead = ctypes.c_uint32 * 2  # named, or every child would make these types anew
_CapabilitySets = ctypes.c_uint32 * 6
_libc.capset.argtypes = [ctypes.POINTER(_CapabilityHead), ctypes.POINTER(_CapabilitySets)]
_libc.mount.argtypes = [*[ctypes.c_char_p] * 3, ctypes.c_ulong, ctypes.c_char_p]
_libc.mlockall.argtypes = [ctypes.c_int]
_libc.reboot.argtypes = [ctypes.c_int]


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


class _CloneArguments(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("pidfd", ctypes.c_uint64),
        ("child_tid", ctypes.c_uint64),
        ("parent_tid", ctypes.c_uint64),
        ("exit_signal", ctypes.c_uint64),
        ("stack", ctypes.c_uint64),
        ("stack_size", ctypes.c_uint64),
        ("tls", ctypes.c_uint64),
        ("set_tid", ctypes.c_uint64),
        ("set_tid_size", ctypes.c_uint64),
        ("cgroup", ctypes.c_uint64),
    )


class ChildIds:
    """Where each child leaves its own number, as its PID namespace has it, before it does anything.

    To read it from /proc would cost some milliseconds under TCG.
    """

    _MOST: Final = 1024  # far more than can be between a fork and its first look

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, self._MOST * 4)  # shared with the children
        self._numbers = (ctypes.c_int32 * self._MOST).from_buffer(self._shared)
        self._next = 0

    def place(self) -> int:
        """Return a place that is nobody's, emptied."""
        self._next = (self._next + 1) % self._MOST
        self._numbers[self._next] = 0
        return self._next

    def address(self, place: int) -> int:
        """Return where the kernel is to write."""
        return ctypes.addressof(self._numbers) + place * 4

    def read(self, place: int) -> int:
        """Return the number of a child that has run, else 0."""
        return int(self._numbers[place])


def fork_into(cgroup: int, own_id: int) -> int:
    """Fork a child that is born in the cgroup (a directory opened for reading); 0 in the child.

    The child's own number is written to the address `own_id` before it runs.

    To move a child there afterwards would cost a grace period of RCU. Python's and the C library's
    own preparations of a child are left out, since a single thread holds no lock of another's; the
    child must end by execve or `os._exit`.
    """
    arguments = _CloneArguments(
        flags=_CLONE_INTO_CGROUP | _CLONE_CHILD_SETTID,
        child_tid=own_id,
        exit_signal=signal.SIGCHLD,
        cgroup=cgroup,
    )
    pid: int = _holding.syscall(
        ctypes.c_long(_SYS_CLONE3),
        ctypes.byref(arguments),
        ctypes.c_size_t(ctypes.sizeof(arguments)),
    )
    return _check(pid)


def setns(fd: int, kinds: int) -> None:
    """Enter the namespaces of `kinds` that `fd` (a pidfd or one namespace) stands for."""
    _check(_libc.setns(fd, kinds))


def unshare(kinds: int) -> None:
    """Enter new namespaces of `kinds`."""
    _check(_libc.unshare(kinds))


def open_in_root(root: int, path: str | bytes, flags: int, mode: int = 0) -> int:
    """Open `path` as if the directory `root` were the root, whatever its symlinks say."""
    name = os.fsencode(path)
    if b"\0" in name:
        raise OSError(errno.EINVAL, "a path with a zero byte")
    how = _OpenHow(flags | os.O_CLOEXEC, mode, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    fd = -1
    for _ in range(_RACES):
        fd = _libc.syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(root),
            ctypes.c_char_p(name),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if fd >= 0 or ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            break
    return _check(fd, path)


def prctl(option: int, value: int = 0) -> int:
    """Call prctl with one argument."""
    return _check(_libc.prctl(option, value, 0, 0, 0))


def capset(mask: int) -> None:
    """Make `mask` the permitted and effective capabilities, and nothing inheritable."""
    head = _CapabilityHead(_CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    sets = _CapabilitySets(low, low, 0, high, high, 0)
    _check(_libc.capset(ctypes.byref(head), ctypes.byref(sets)))


def mount(kind: str, target: str, flags: int = 0, options: str = "") -> None:
    """Mount a file system that has no device."""
    name = kind.encode()
    _check(_libc.mount(name, target.encode(), name, flags, options.encode()), target)


def close_on_exec_from(first: int) -> None:
    """Mark every descriptor from `first` on to be closed by the next execve."""
    _close_range(first, _CLOSE_RANGE_CLOEXEC)


def close_from(first: int) -> None:
    """Close every descriptor from `first` on."""
    _close_range(first, 0)


def lock_memory() -> None:
    """Keep the agent's pages in memory once they are there, however hard the workload presses."""
    _check(_libc.mlockall(MCL_ALL_ON_FAULT))


def reboot(command: int) -> None:
    """Power off, or whatever `command` says."""
    _check(_libc.reboot(ctypes.c_int(command & 0xFFFFFFFF).value))


def _close_range(first: int, flags: int) -> None:
    _check(
        _libc.syscall(
            ctypes.c_long(_SYS_CLOSE_RANGE),
            ctypes.c_uint(first),
            ctypes.c_uint(0xFFFFFFFF),
            ctypes.c_uint(flags),
        )
    )


def _check(result: int, path: str | bytes | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result
