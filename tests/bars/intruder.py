"""A VMM that was taken over, played: its user, its namespaces, its descriptors, and an aim.

Run as root: `python3 -I intruder.py PID`. It becomes a process that has everything the VMM PID has:
duplicates of its descriptors, its mount, pid, network, ipc and uts namespaces, its user and groups,
no capability, no_new_privs. (Not its seccomp filter: what is tried here has more system calls than
the real one.) Then it tries everything to change the image's memory, and the other files that
microVMs share, and prints what it got as JSON: {attempt: "done" | the error}.

The caller decides by the files' digests; "done" alone says nothing (a private mapping may be
written as one likes).
"""

# the system calls themselves, one attempt a line
# ruff: noqa: PTH101, PTH104, PTH106, PTH108, PTH115, PTH116, PTH120, PTH208, PTH211, S103, E501

import ctypes
import errno
import fcntl
import json
import mmap
import os
import struct
import sys
from collections.abc import Callable
from typing import Any

TARGETS = ("/image/memory.img", "/image/kernel", "/image/initramfs")
MARK = b"TAKEN OVER"
NAMESPACES = ("ipc", "uts", "net", "pid", "mnt")
PIDFD_GETFD = 438
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 24, 38, 47
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_MOVE = 1, 32, 4096, 8192
PUNCH_HOLE, KEEP_SIZE, ZERO_RANGE, COLLAPSE = 2, 1, 16, 8
FS_IOC_SETFLAGS, FICLONE, FIDEDUPERANGE = 0x40086602, 0x40049409, 0xC0189436
MADV_REMOVE, MREMAP_MAYMOVE = 9, 1

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
results: dict[str, str] = {}


def main() -> None:
    """Become the VMM, try all, tell."""
    pid = int(sys.argv[1])
    fds = _descriptors_of(pid)
    uid, gid = os.stat(f"/proc/{pid}").st_uid, os.stat(f"/proc/{pid}").st_gid
    spaces = [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in NAMESPACES]
    outside = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    for space in spaces:
        _check(libc.setns(space, 0), "setns")
        os.close(space)
    os.close(outside)
    reading, writing = os.pipe()
    child = os.fork()  # into the pid namespace
    if child == 0:
        os.close(reading)
        _drop(uid, gid)
        for attack in ATTACKS:
            attack(fds)
        os.write(writing, json.dumps(results).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        sys.stdout.write(file.read().decode())
    os.waitpid(child, 0)


def _descriptors_of(pid: int) -> dict[int, str]:
    """Duplicate every descriptor of `pid`; return ours with what they lead to."""
    pidfd = os.pidfd_open(pid)
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        leads_to = os.readlink(f"/proc/{pid}/fd/{name}")
        got = libc.syscall(PIDFD_GETFD, pidfd, int(name), 0)
        if got >= 0:
            found[got] = f"fd {name} {leads_to}"
    os.close(pidfd)
    return found


def _drop(uid: int, gid: int) -> None:
    """Give up every power, as the jail does."""
    for cap in range(64):
        if libc.prctl(PR_CAPBSET_DROP, cap, 0, 0, 0):
            break
    libc.prctl(PR_CAP_AMBIENT, 4, 0, 0, 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    results["is uid"] = str(os.getuid())
    results["sees"] = " ".join(sorted(os.listdir("/")))


def attempt(name: str, act: Callable[[], Any]) -> None:
    """Do something bad and note how it went."""
    try:
        act()
    except OSError as error:
        results[name] = errno.errorcode.get(error.errno or 0, str(error))
    except (ValueError, PermissionError, TypeError) as error:
        results[name] = f"{type(error).__name__}: {error}"
    else:
        results[name] = "done"


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def by_name(_fds: dict[int, str]) -> None:
    """Attack the files by the names the jail has for them."""
    for path in TARGETS:
        for name, flags in (
            ("O_WRONLY", os.O_WRONLY), ("O_RDWR", os.O_RDWR), ("O_APPEND", os.O_WRONLY | os.O_APPEND),
            ("O_RDONLY|O_TRUNC", os.O_RDONLY | os.O_TRUNC), ("O_RDWR|O_DIRECT", os.O_RDWR | os.O_DIRECT),
            ("O_RDWR|O_CREAT", os.O_RDWR | os.O_CREAT),
        ):  # fmt: skip
            attempt(f"open {path} {name}", lambda p=path, f=flags: _spoil(os.open(p, f)))
        attempt(f"truncate {path}", lambda p=path: os.truncate(p, 0))
        attempt(f"chmod {path}", lambda p=path: os.chmod(p, 0o666))
        attempt(f"chown {path}", lambda p=path: os.chown(p, os.getuid(), os.getgid()))
        attempt(f"utime {path}", lambda p=path: os.utime(p, (0, 0)))
        attempt(f"setxattr {path}", lambda p=path: os.setxattr(p, "user.x", b"y"))
        attempt(f"unlink {path}", lambda p=path: os.unlink(p))
        attempt(f"rename {path}", lambda p=path: os.rename(p, p + ".old"))
        attempt(f"link {path}", lambda p=path: os.link(p, "/image/linked"))
        attempt(f"rmdir of {path}", lambda p=path: os.rmdir(os.path.dirname(p)))
        attempt(f"symlink over {path}", lambda p=path: os.symlink("/dev/null", p))
    attempt("create beside", lambda: os.open("/image/new", os.O_CREAT | os.O_WRONLY))
    attempt("/proc/self/mem", lambda: os.open("/proc/self/mem", os.O_RDWR))
    attempt("out of the root", lambda: os.chroot("/usr/../.."))
    attempt("see the host", lambda: os.listdir("/../../var/lib"))


def by_mapping(_fds: dict[int, str]) -> None:
    """Attack through mappings of the readable file."""
    for path in TARGETS:
        fd = os.open(path, os.O_RDONLY)
        size = os.fstat(fd).st_size & ~4095
        attempt(f"mmap shared writable {path}", lambda f=fd: mmap.mmap(f, 4096))
        attempt(f"mprotect shared {path}", lambda f=fd: _mprotect(f, 1, mmap.PROT_READ))
        attempt(f"mprotect shared, nothing first {path}", lambda f=fd: _mprotect(f, 1, 0))
        attempt(f"private write {path}", lambda f=fd: _mprotect(f, 2, mmap.PROT_READ, write=True))
        attempt(f"madvise remove shared {path}", lambda f=fd, s=size: _madvise(f, 1, s))
        attempt(f"madvise remove private {path}", lambda f=fd, s=size: _madvise(f, 2, s))
        attempt(f"reopen {path}", lambda f=fd: os.open(f"/proc/self/fd/{f}", os.O_RDWR))
        attempt(f"reopen by /dev/fd {path}", lambda f=fd: os.open(f"/dev/fd/{f}", os.O_RDWR))
        by_descriptor(f"own fd of {path}", fd)


def by_descriptors(fds: dict[int, str]) -> None:
    """Attack through every descriptor that the VMM has: sockets, disks, the tap."""
    for fd, name in fds.items():
        if "overlay" in name:
            continue  # its own disk, which it may spoil
        by_descriptor(name, fd)
        attempt(f"{name}: map it", lambda f=fd: mmap.mmap(f, 4096))
        attempt(f"{name}: openat", lambda f=fd: os.open("..", os.O_RDONLY, dir_fd=f))


def by_descriptor(name: str, fd: int) -> None:
    """Attack what one descriptor leads to."""
    attempt(f"{name}: set O_RDWR", lambda: fcntl.fcntl(
        fd, fcntl.F_SETFL, os.O_RDWR | os.O_NONBLOCK))  # fmt: skip
    attempt(f"{name}: pwrite", lambda: os.pwrite(fd, MARK, 4096))
    attempt(f"{name}: ftruncate", lambda: os.ftruncate(fd, 0))
    attempt(f"{name}: fchmod", lambda: os.fchmod(fd, 0o666))
    attempt(f"{name}: fallocate", lambda: os.posix_fallocate(fd, 0, 1 << 20))
    for what, mode in (
        ("punch", PUNCH_HOLE | KEEP_SIZE), ("zero", ZERO_RANGE), ("collapse", COLLAPSE),
    ):  # fmt: skip
        attempt(f"{name}: {what}", lambda m=mode: _fallocate(fd, m))
    attempt(f"{name}: setflags", lambda: fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("l", 0x10)))
    attempt(f"{name}: clone into", lambda: fcntl.ioctl(fd, FICLONE, _blank()))
    attempt(f"{name}: dedupe into", lambda: fcntl.ioctl(_blank(), FIDEDUPERANGE, _dedupe(fd)))
    attempt(f"{name}: copy_file_range", lambda: os.copy_file_range(_blank(), fd, 4096, 0, 0))
    attempt(f"{name}: sendfile", lambda: os.sendfile(fd, _blank(), 0, 4096))
    attempt(f"{name}: splice", lambda: _splice(fd))
    attempt(f"{name}: link it", lambda: _check(
        libc.linkat(fd, b"", -100, b"/image/linked", 0x1000), "linkat"))  # fmt: skip


def by_mounts(_fds: dict[int, str]) -> None:
    """Attack through mounts: as we are, then as root of a user namespace of our own."""
    _mounts("mount")
    attempt("setns /proc/1/ns/mnt", lambda: os.open("/proc/1/ns/mnt", os.O_RDONLY))
    child = os.fork()
    if child == 0:
        before = set(results)
        attempt("own user namespace", lambda: _check(
            libc.unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare"))  # fmt: skip
        _mounts("mount in own user namespace")
        by_name_again("in own user namespace")
        attempt("own pid namespace", lambda: _check(libc.unshare(CLONE_NEWPID), "unshare"))
        attempt("mount proc", lambda: _mount("proc", "/usr", "proc", 0))
        _leave({name: how for name, how in results.items() if name not in before})
    _join(child)


def by_name_again(where: str) -> None:
    """Try the plain ways once more."""
    for path in TARGETS:
        attempt(f"open {path} {where}", lambda p=path: _spoil(os.open(p, os.O_RDWR)))
        attempt(f"chmod {path} {where}", lambda p=path: os.chmod(p, 0o666))


def _mounts(where: str) -> None:
    for path in TARGETS:
        attempt(
            f"{where}: remount {path} rw",
            lambda p=path: _mount(None, p, None, MS_REMOUNT | MS_BIND),
        )
        attempt(f"{where}: bind over {path}", lambda p=path: _mount("/dev/null", p, None, MS_BIND))
        attempt(f"{where}: bind away {path}", lambda p=path: _mount(p, "/dev/null", None, MS_BIND))
        attempt(f"{where}: move {path}", lambda p=path: _mount(p, "/dev/null", None, MS_MOVE))
        attempt(
            f"{where}: umount {path}", lambda p=path: _check(libc.umount2(p.encode(), 2), "umount")
        )
    attempt(f"{where}: remount / rw", lambda: _mount(None, "/", None, MS_REMOUNT | MS_BIND))
    attempt(f"{where}: tmpfs", lambda: _mount("x", "/image", "tmpfs", 0))


def _leave(found: dict[str, str]) -> None:
    os.pwrite(_box, json.dumps(found).encode(), 0)
    os._exit(0)


def _join(child: int) -> None:
    os.waitpid(child, 0)
    results.update(json.loads(os.pread(_box, 1 << 20, 0) or b"{}"))


ATTACKS = (by_name, by_mapping, by_descriptors, by_mounts)


def _spoil(fd: int) -> None:
    os.pwrite(fd, MARK, 8192)


def _blank() -> int:
    fd = os.memfd_create("blank")
    os.write(fd, MARK * 1000)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _dedupe(fd: int) -> bytes:
    return struct.pack("QQHHIqQQiI", 0, 4096, 1, 0, 0, fd, 0, 0, 0, 0)


def _splice(fd: int) -> None:
    reading, writing = os.pipe()
    os.write(writing, MARK)
    os.splice(reading, fd, len(MARK), offset_dst=4096)


def _fallocate(fd: int, mode: int) -> None:
    _check(libc.fallocate(fd, mode, ctypes.c_long(0), ctypes.c_long(1 << 20)), "fallocate")


def _mapped(fd: int, kind: int, protection: int, size: int) -> int:
    at = libc.mmap(None, size, protection, kind, fd, 0)
    if at in (None, ctypes.c_void_p(-1).value):
        _check(1, "mmap")
    return int(at)


def _mprotect(fd: int, kind: int, first: int, *, write: bool = False) -> None:
    at = _mapped(fd, kind, first, 4096)
    _check(libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(4096), 3), "mprotect")
    if write:
        ctypes.memmove(at, MARK, len(MARK))


def _madvise(fd: int, kind: int, size: int) -> None:
    at = _mapped(fd, kind, 1, size)
    _check(libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t(size), MADV_REMOVE), "madvise")


def _mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    words = [word.encode() if word else None for word in (source, target, kind)]
    _check(libc.mount(*words, ctypes.c_ulong(flags), None), "mount")


_box = os.memfd_create("results")

if __name__ == "__main__":
    main()
