"""The jails VMMs are started in: a script, so that nothing of the server is in the process.

Run as `python -I -S jail.py MARK CONTROL_FD` with root's powers (of the host, or of a user
namespace). It waits on the socket CONTROL_FD, since the start of an interpreter is dear and that of
a child of it is not. Each message brings descriptors: the socket of a new *cell*, and the files
`cgroup.procs` of the control groups that are the cell's. A cell enters these at once and waits for
one message, its spec, with the descriptors that go with it. It then becomes the VMM: PID 1 of its
own pid namespace, with own mount, network, ipc, uts and cgroup namespaces, that sees read-only
system libraries and the files of its spec and nothing else, runs as an unprivileged user with no
capability and cannot gain any. MARK stands in the command line of whatever waits. All end with the
server: their sockets are at an end then.

The spec is JSON: {argv, env, uid, root, binds: [[source, target, writable]], copies: [path],
devices: [name], nofile: n, fsize: n, groups: whether this user namespace lets groups be dropped}.
Its descriptors are the standard error, the network namespace, and what the VMM shall have as
FIRST_FD, FIRST_FD + 1, … Core dumps are always off. The answer is the host pid of the VMM; the end
of the answer is the end of the jail's part.
"""

import array
import ctypes
import json
import os
import resource
import signal
import socket
import sys

FIRST_FD = 64  # above whatever the jail itself has open

_NEWNS, _NEWUTS, _NEWIPC, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
_NEWCGROUP = 0x2000000
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_DETACH = 2
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT = 24, 38, 8, 47
_PIVOT_ROOT = 155  # x86-64
_LAST_CAP = 63
_THREADS = 512
_OOM_SCORE = b"400"  # a VMM goes before the server does, and before what else serves the host
_MOST_FDS = 250
_MOST_BYTES = 1 << 20
_NEVER = ("MSGQUEUE", "RTPRIO", "NICE", "MEMLOCK", "CORE")  # limits that are 0

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Make a cell for each message, until there is no server."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how a cell has ended
    control = socket.socket(fileno=int(sys.argv[2]))
    while True:
        message, fds = _received(control)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            _cell(socket.socket(fileno=fds[0]), fds[1:])
        for fd in fds:
            os.close(fd)


def _received(sender: socket.socket) -> tuple[bytes, list[int]]:
    """Return a message and its descriptors, none of which outlives an exec by accident."""
    # not socket.recv_fds: it takes flags and does not use them
    room = socket.CMSG_SPACE(_MOST_FDS * 4)
    words, extra, _, _ = sender.recvmsg(_MOST_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    numbers = array.array("i")
    for _, _, content in extra:
        numbers.frombytes(content)
    return words, list(numbers)


def _cell(asked: socket.socket, groups: list[int]) -> None:
    """Wait in the control groups for a spec, and become what it says."""
    try:
        for group in groups:
            os.write(group, b"0")
            os.close(group)
        score = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(score, _OOM_SCORE)
        os.close(score)
        words, fds = _received(asked)
        if words:
            for standard in (1, 2):
                os.dup2(fds[0], standard)
            _jailed(json.loads(words), asked, fds[1], fds[2:])
    except BaseException as error:  # noqa: BLE001  the forked half must never return to main
        os.write(2, f"jail: {error}\n".encode())
        os._exit(126)
    os._exit(0)


def _jailed(spec: dict, asked: socket.socket, netns: int, fds: list[int]) -> None:  # type: ignore[type-arg]
    """Build the jail, fork its PID 1, tell its host pid."""
    for number, fd in enumerate(fds, start=FIRST_FD):
        os.dup2(fd, number)  # this one is inheritable
    _call("setns", netns, _NEWNET)
    _call("unshare", _NEWNS | _NEWIPC | _NEWUTS | _NEWPID | _NEWCGROUP)
    _call("sethostname", b"vmm", 3)
    _enter_root(spec)
    child = os.fork()
    if child == 0:
        _become(spec)
    asked.send(b"%d\n" % child)


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
        _bounded(spec)
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
        os.closerange(3, FIRST_FD)
        os.execve(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606  the purpose
    except BaseException as error:  # noqa: BLE001  the forked half must never return to main
        os.write(2, f"jail: cannot start {spec['argv'][0]}: {error}\n".encode())
        os._exit(126)


def _bounded(spec: dict) -> None:  # type: ignore[type-arg]
    """Set the limits that a VMM cannot lift."""
    nofile = min(spec["nofile"], resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))
    # no file of the host, its overlay above all, can be made longer than its disk may get
    resource.setrlimit(resource.RLIMIT_FSIZE, (spec["fsize"], spec["fsize"]))
    for name in _NEVER:
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (0, 0))
    for number in (signal.SIGCHLD, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)  # what is ignored would stay so in the VMM


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
