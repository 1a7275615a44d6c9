"""A VMM that somebody has broken into, played: it tries to get at what is not its own.

Run as root: python -I -S broken_in.py PID FACTS — it joins the control groups, the namespaces and
the user of the VMM PID and keeps no power, as code inside the VMM would (without QEMU's seccomp
filter, so with more system calls than that has). Prints {attempt: "done" or the error's name} as
JSON, for "inside", and for "outside": the same with user, limits and control groups alone, as if
the namespaces had failed.

FACTS is JSON: files and sockets that are not its own, pids of other processes, addresses.
"""

# ruff: noqa: PTH116, PTH119, PTH120, PTH123

import ctypes
import errno
import json
import os
import resource
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any

_NEWNS, _NEWUTS, _NEWIPC, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 24, 38, 47
_PTRACE_SEIZE, _BPF, _PERF, _KEXEC, _VM_READV, _HANDLE = 0x4206, 321, 298, 246, 310, 304
_ETH_ALL, _RTM_NEWROUTE, _NLM_CREATE = 3, 24, 0x0405
_MOST_FORKS = 5000
_LIMITS = {
    "Max processes": resource.RLIMIT_NPROC, "Max open files": resource.RLIMIT_NOFILE,
    "Max file size": resource.RLIMIT_FSIZE, "Max core file size": resource.RLIMIT_CORE,
}  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Play it twice, and tell."""
    pid, facts = int(sys.argv[1]), json.loads(sys.argv[2])
    told = {name: _played(pid, facts, name) for name in ("inside", "outside")}
    sys.stdout.write(json.dumps(told))


def _played(pid: int, facts: dict[str, Any], where: str) -> dict[str, str]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        uid = os.stat(f"/proc/{pid}").st_uid
        _join_groups(pid)
        _take_limits(pid)
        if where == "inside":
            pidfd = os.pidfd_open(pid)
            _check(_libc.setns(pidfd, _NEWNS | _NEWPID | _NEWNET | _NEWIPC | _NEWUTS))
            os.close(pidfd)
            if os.fork():  # the pid namespace is that of children
                os.wait()
                os._exit(0)
        _drop(uid)
        tried = {name: _outcome(attempt) for name, attempt in _attempts(facts).items()}
        tried |= _reached(facts["addresses"])
        tried["forks"] = _forks()
        os.write(writing, json.dumps(tried).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    os.waitpid(child, 0)
    result: dict[str, str] = json.loads(text)
    return result


def _join_groups(pid: int) -> None:
    """Enter the control groups of `pid`, of whichever versions."""
    with open(f"/proc/{pid}/cgroup") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    for _, kinds, path in lines:
        for root in (f"/sys/fs/cgroup/{kinds}", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
            try:
                with open(f"{root}{path}/cgroup.procs", "w") as file:
                    file.write(str(os.getpid()))
            except OSError:
                continue


def _take_limits(pid: int) -> None:
    """Take the resource limits of `pid`."""
    with open(f"/proc/{pid}/limits") as file:
        rows = {row[:26].strip(): row[26:].split()[0] for row in file}
    for name, kind in _LIMITS.items():
        if rows[name] != "unlimited":
            resource.setrlimit(kind, (int(rows[name]), int(rows[name])))


def _drop(uid: int) -> None:
    for cap in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, cap, 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _attempts(facts: dict[str, Any]) -> dict[str, Callable[[], object]]:
    return {
        **{f"read {path}": _reader(path) for path in facts["files"]},
        **{f"speak to {path}": _speaker(path) for path in facts["sockets"]},
        **{f"{name} {pid}": act for pid in facts["pids"] for name, act in _on_process(pid).items()},
        **_on_network(),
        **_on_kernel(),
    }


def _reader(path: str) -> Callable[[], object]:
    return lambda: os.read(os.open(path, os.O_RDONLY), 16)


def _speaker(path: str) -> Callable[[], object]:
    def speak() -> None:
        os.stat(path)
        os.chdir(os.path.dirname(path))  # a path may be longer than the address of a socket
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(os.path.basename(path))

    return speak


def _reached(addresses: list[list[Any]]) -> dict[str, str]:
    """Try to connect to all of them at once."""
    told = {}

    def reach(host: str, port: int) -> None:
        told[f"reach {host}:{port}"] = _outcome(lambda: socket.create_connection((host, port), 3))

    threads = [threading.Thread(target=reach, args=one) for one in addresses]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return told


def _on_process(pid: int) -> dict[str, Callable[[], object]]:
    def peek() -> None:
        piece = ctypes.create_string_buffer(8)
        vector = (ctypes.c_size_t * 2)(ctypes.addressof(piece), 8)
        there = (ctypes.c_size_t * 2)(0x400000, 8)
        _check(_libc.syscall(_VM_READV, pid, vector, 1, there, 1, 0))

    return {
        "trace": lambda: _check(_libc.ptrace(_PTRACE_SEIZE, pid, 0, 0)),
        "peek into": peek,
        "read the memory of": _reader(f"/proc/{pid}/mem"),
        "signal": lambda: os.kill(pid, signal.SIGCONT),
        "renice": lambda: os.setpriority(os.PRIO_PROCESS, pid, -5),
    }


def _on_network() -> dict[str, Callable[[], object]]:
    def route() -> None:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
            body = struct.pack("BBBBBBBBI", socket.AF_INET, 0, 0, 0, 254, 3, 0, 1, 0)
            head = struct.pack("IHHII", 16 + len(body), _RTM_NEWROUTE, _NLM_CREATE, 1, 0)
            link.sendto(head + body, (0, 0))
            (error,) = struct.unpack_from("i", link.recv(4096), 16)
            if error:
                raise OSError(-error, os.strerror(-error))

    def datagram() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"out", ("7.7.7.7", 8080))

    return {
        "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "raw socket 6": lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58),
        "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, _ETH_ALL),
        "change routes": route,
        "send by itself": datagram,
    }


def _on_kernel() -> dict[str, Callable[[], object]]:
    blob = ctypes.create_string_buffer(128)
    return {
        "become root": lambda: os.setuid(0),
        "another group": lambda: os.setgroups([0]),
        "mount": lambda: _check(_libc.mount(b"none", b"/", b"tmpfs", ctypes.c_ulong(0), None)),
        "own mounts": lambda: _check(_libc.unshare(_NEWNS)),
        "chroot": lambda: os.chroot("/"),
        "make a device": lambda: os.mknod("/dev/shm/mem", 0o20666, os.makedev(1, 1)),  # noqa: S108
        "write the system": lambda: os.open("/usr/bin/new", os.O_CREAT | os.O_WRONLY),
        "open by handle": lambda: _check(_libc.syscall(_HANDLE, -100, blob, 0)),
        "bpf": lambda: _check(_libc.syscall(_BPF, 5, blob, 128)),
        "kexec": lambda: _check(_libc.syscall(_KEXEC, 0, 0, 0, 0)),
        "a longer life of memory": lambda: _check(_libc.mlockall(3)),
        "reboot": lambda: _check(_libc.reboot(0)),
        "set the clock": lambda: _check(_libc.settimeofday(ctypes.create_string_buffer(16), None)),
        "name the host": lambda: _check(_libc.sethostname(b"taken", 5)),
    }


def _forks() -> str:
    """Fork until it is refused; return how often it was not."""
    children = []
    try:
        while len(children) < _MOST_FORKS:
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            children.append(child)
    except OSError:
        pass
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return str(len(children))


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return "done"


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main()
