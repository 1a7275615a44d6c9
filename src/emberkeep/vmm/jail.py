"""The jail a VMM is started in: a script, so that nothing of the server is in the process.

Run as `python -I -S jail.py MARK SPEC_FD` with root's powers (of the host, or of a user namespace).
It leaves a process that is PID 1 of its own pid namespace, has its own mount, network, ipc and uts
namespaces, sees read-only system libraries and the files of its spec and nothing else, runs as an
unprivileged user with no capability and cannot gain any. MARK stands in the command line so that a
restarted server finds what it left behind.

The spec is JSON: {argv, env, uid, netns_fd, pid_fd, root, binds: [[source, target, writable]],
copies: [path], devices: [name], keep_fds: [n], nofile: n, fsize: n, groups:
whether this user namespace lets groups be dropped}. Core dumps are always off.
"""

import ctypes
import json
import os
import resource
import sys

_NEWNS, _NEWUTS, _NEWIPC, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_DETACH = 2
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT = 24, 38, 8, 47
_PIVOT_ROOT = 155  # x86-64
_LAST_CAP = 63
_THREADS = 512

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Build the jail, fork its PID 1, tell its host pid, leave."""
    with os.fdopen(int(sys.argv[2]), "rb") as file:
        spec = json.loads(file.read())
    for fd in [spec["pid_fd"], *spec["keep_fds"]]:
        os.set_inheritable(fd, fd != spec["pid_fd"])
    if spec["netns_fd"] is None:
        _call("unshare", _NEWNET)
    else:
        _call("setns", spec["netns_fd"], _NEWNET)
        os.close(spec["netns_fd"])
    _call("unshare", _NEWNS | _NEWIPC | _NEWUTS | _NEWPID)
    _enter_root(spec)
    child = os.fork()
    if child == 0:
        _become(spec)
    os.write(spec["pid_fd"], b"%d\n" % child)


def _enter_root(spec: dict) -> None:  # type: ignore[type-arg]
    """Replace the file system by a small read-only one that holds only what the VMM needs."""
    root = spec["root"]
    _mount(None, "/", None, _REC | _PRIVATE)
    _mount("jail", root, "tmpfs", _NOSUID | _NODEV, "size=64k,mode=755")
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        if os.path.islink("/" + name):  # noqa: PTH114  pathlib costs 8 ms at every launch
            os.symlink(os.readlink("/" + name), f"{root}/{name}")  # noqa: PTH115, PTH211
        elif os.path.isdir("/" + name):  # noqa: PTH112
            _bind("/" + name, f"{root}/{name}", writable=False)
    _bind("/usr", root + "/usr", writable=False)
    for source in spec["copies"]:
        os.makedirs(os.path.dirname(root + source), exist_ok=True)  # noqa: PTH103, PTH120
        with open(source) as original, open(root + source, "x") as copy:  # noqa: PTH123
            copy.write(original.read())
    for source, target, writable in spec["binds"]:
        _bind(source, root + target, writable=writable)
    for name in spec["devices"]:
        _bind("/dev/" + name, f"{root}/dev/{name}", writable=True)
    _mount(None, root, None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)
    os.chdir(root)
    if _libc.syscall(_PIVOT_ROOT, b".", b"."):
        _fail("pivot_root")
    _call("umount2", b".", _DETACH)
    os.chdir("/")


def _bind(source: str, target: str, *, writable: bool) -> None:
    if os.path.isdir(source):  # noqa: PTH112
        os.makedirs(target, exist_ok=True)  # noqa: PTH103
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
        os.close(os.open(target, os.O_CREAT | os.O_CLOEXEC, 0o444))
    _mount(source, target, None, _BIND)
    flags = _REMOUNT | _BIND | _NOSUID
    # a mount inherited by a user namespace keeps its own flags locked: repeat them
    inherited = os.statvfs(source).f_flag & (os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME)
    _mount(None, target, None, flags | inherited | (0 if writable else _RDONLY))


def _become(spec: dict) -> None:  # type: ignore[type-arg]
    """Give up every power and become the VMM."""
    try:
        nofile = min(spec["nofile"], resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))
        # no file of the host, its overlay above all, can be made longer than its disk may get
        resource.setrlimit(resource.RLIMIT_FSIZE, (spec["fsize"], spec["fsize"]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        os.setsid()
        os.umask(0o077)
        for cap in range(_LAST_CAP):
            if _libc.prctl(_PR_CAPBSET_DROP, cap, 0, 0, 0):
                break  # beyond the kernel's last capability
        _libc.prctl(_PR_SET_KEEPCAPS, 0, 0, 0, 0)
        _libc.prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0)  # PR_CAP_AMBIENT_CLEAR_ALL
        if spec["uid"]:
            resource.setrlimit(resource.RLIMIT_NPROC, (_THREADS, _THREADS))  # the user is its own
            if spec["groups"]:
                os.setgroups([])
            os.setresgid(spec["uid"], spec["uid"], spec["uid"])
            os.setresuid(spec["uid"], spec["uid"], spec["uid"])
        else:
            _drop_own_capabilities()
        if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            _fail("no_new_privs")
        os.execve(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606  the purpose
    except BaseException as error:  # noqa: BLE001  the forked half must never return to main
        os.write(2, f"jail: cannot start {spec['argv'][0]}: {error}\n".encode())
        os._exit(126)


def _drop_own_capabilities() -> None:
    """Where a user namespace has no second user to become: uid 0 of it, without any capability."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    if _libc.capset(header, nothing):
        _fail("capset")


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str = ""
) -> None:
    if _libc.mount(
        (source or "none").encode(), target.encode(), (kind or "").encode() or None,
        ctypes.c_ulong(flags), options.encode() or None,
    ):  # fmt: skip
        _fail(f"mount {source or ''} on {target}")


def _call(name: str, *args: object) -> None:
    if getattr(_libc, name)(*args):
        _fail(name)


def _fail(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"jail: {what}: {os.strerror(number)}")


if __name__ == "__main__":
    main()
