"""A VMM that somebody has broken into, simulated: its user, namespaces and descriptors, no powers.

Run as root: python -I -S taken.py PID PORT DEV:INO,… — the process becomes what code inside the VMM
could be at most (without QEMU's seccomp filter, and with the host's /proc at hand, so rather more),
tries to change what it must not, and prints {attempt: "done" or the error's name} as JSON.
"""

import ctypes
import errno
import json
import mmap
import os
import socket
import sys

_NEWNS, _NEWUTS, _NEWIPC, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 4, 24, 38, 47
_PIDFD_GETFD = 438
_REMOUNT, _BIND = 32, 4096
_KEEP_SIZE_AND_PUNCH_HOLE = 3
_MADV_REMOVE = 9
_PAGE = 4096
_MEMORY = "/image/memory.img"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
]  # fmt: skip


def main() -> None:
    """Become the VMM, try everything, tell."""
    pid, port = int(sys.argv[1]), int(sys.argv[2])
    files = {tuple(map(int, word.split(":"))) for word in sys.argv[3].split(",")}
    uid = int(_status(pid)["Uid"].split()[0])
    pidfd = os.pidfd_open(pid)
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    fds = [_taken(pidfd, int(name)) for name in os.listdir(f"/proc/{pid}/fd")]  # noqa: PTH208
    theirs = [fd for fd in fds if (os.fstat(fd).st_dev, os.fstat(fd).st_ino) in files]
    _check(_libc.setns(pidfd, _NEWNS | _NEWPID | _NEWNET | _NEWIPC | _NEWUTS))
    child = os.fork()  # the pid namespace is that of children
    if child == 0:
        _drop(uid)
        tried = {**_on_path(proc), **_elsewhere(port)}
        for number, fd in enumerate(theirs):
            tried |= {f"descriptor {number}: {n}": how for n, how in _on_fd(fd, proc).items()}
        json.dump({"descriptors": len(theirs), "seen": _seen(), "tried": tried}, sys.stdout)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)


def _drop(uid: int) -> None:
    for cap in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, cap, 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0))  # /proc/self is its own


def _seen() -> list[str]:
    """Return every file that is not of the system's own programs."""
    found = []
    for top in os.listdir("/"):  # noqa: PTH208
        if top not in ("usr", "bin", "sbin", "lib", "lib32", "lib64"):
            found += [f"{at}/{name}" for at, _, names in os.walk(f"/{top}") for name in names]
    return found


def _on_path(proc: int) -> dict[str, str]:
    """Try to change the memory image by its name."""
    fd = os.open(_MEMORY, os.O_RDONLY)
    tried = {f"memory: {name}": how for name, how in _on_fd(fd, proc).items()}
    attempts = {
        "open to write": lambda: os.open(_MEMORY, os.O_WRONLY),
        "open for both": lambda: os.open(_MEMORY, os.O_RDWR),
        "truncate": lambda: os.truncate(_MEMORY, 0),
        "change its mode": lambda: os.chmod(_MEMORY, 0o600),  # noqa: PTH101
        "remove": lambda: os.unlink(_MEMORY),  # noqa: PTH108
        "rename": lambda: os.rename(_MEMORY, "/image/other"),  # noqa: PTH104
        "make another": lambda: os.open("/image/new", os.O_WRONLY | os.O_CREAT),
        "remount it": lambda: _mount(b"none", _MEMORY.encode(), _REMOUNT | _BIND),
        "remount the root": lambda: _mount(b"none", b"/", _REMOUNT | _BIND),
        "mount over it": lambda: _mount(b"/usr/bin/env", _MEMORY.encode(), _BIND),
        "unshare": lambda: _check(_libc.unshare(_NEWNS)),
    }
    return tried | {f"path: {name}": _outcome(attempt) for name, attempt in attempts.items()}


def _on_fd(fd: int, proc: int) -> dict[str, str]:
    """Try to change a file through a descriptor that can only read it."""
    size = os.fstat(fd).st_size
    attempts = {
        "write": lambda: os.write(fd, b"taken"),
        "write at": lambda: os.pwrite(fd, b"taken", 0),
        "truncate": lambda: os.ftruncate(fd, 0),
        "grow": lambda: os.posix_fallocate(fd, size, _PAGE),
        "punch a hole": lambda: _check(
            _libc.fallocate(fd, _KEEP_SIZE_AND_PUNCH_HOLE, ctypes.c_long(0), ctypes.c_long(_PAGE))
        ),
        "change its mode": lambda: os.fchmod(fd, 0o600),
        "change its times": lambda: os.utime(fd, (0, 0)),
        "open again": lambda: os.open(f"self/fd/{fd}", os.O_RDWR, dir_fd=proc),
        "map to write": lambda: mmap.mmap(
            fd, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE
        ),
        "make a mapping writable": lambda: _check(
            _libc.mprotect(ctypes.c_void_p(_shared(fd)), _PAGE, mmap.PROT_READ | mmap.PROT_WRITE)
        ),
        "drop a mapping's pages": lambda: _check(
            _libc.madvise(ctypes.c_void_p(_shared(fd)), _PAGE, _MADV_REMOVE)
        ),
        "write a mapping by /proc": lambda: os.pwrite(
            os.open("self/mem", os.O_RDWR, dir_fd=proc), b"taken", _shared(fd)
        ),
    }
    _scribble(fd)
    return {name: _outcome(attempt) for name, attempt in attempts.items()}


def _elsewhere(port: int) -> dict[str, str]:
    """Try to reach the server and other processes."""
    attempts = {
        "reach the server": lambda: socket.create_connection(("127.0.0.1", port), 5),
        "make a device": lambda: os.mknod("/dev/shm/mem", 0o20666, os.makedev(1, 1)),  # noqa: S108
        "become root": lambda: os.setuid(0),
    }
    return {name: _outcome(attempt) for name, attempt in attempts.items()}


def _scribble(fd: int) -> None:
    """Write into a private mapping: allowed, and nobody's loss but its own."""
    with mmap.mmap(fd, _PAGE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as own:
        own[:5] = b"taken"


def _shared(fd: int) -> int:
    address = _libc.mmap(None, _PAGE, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    _check(-1 if address == ctypes.c_void_p(-1).value else 0)
    return int(address)


def _outcome(attempt) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


def _mount(source: bytes, target: bytes, flags: int) -> None:
    _check(_libc.mount(source, target, None, ctypes.c_ulong(flags), None))


def _taken(pidfd: int, number: int) -> int:
    fd = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    _check(min(fd, 0))
    return int(fd)


def _status(pid: int) -> dict[str, str]:
    with open(f"/proc/{pid}/status") as file:  # noqa: PTH123
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main()
