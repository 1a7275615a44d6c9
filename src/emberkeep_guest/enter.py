"""Becomes a process of the container: a fork of the agent that enters it and gives up the rest.

The agent is one thread, so it may set the PID namespace of its next child, fork, and set it back.
This costs a few milliseconds where `crun exec` costs half a second under TCG.
"""

import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Final, NoReturn

from emberkeep_guest import capabilities, libc
from emberkeep_guest.terminal import control
from emberkeep_guest.users import Login

_ENTERED: Final = libc.CLONE_NEWNS | libc.CLONE_NEWIPC | libc.CLONE_NEWCGROUP
_FAILED: Final = 125
OPEN_FILES: Final = (1024, 1024)


class Place:
    """The container, as far as a process must know it to enter."""

    def __init__(
        self, *, pidfd: int, pid_namespace: int, root: int, mask: int, cgroup: int,
        chroot: str | None = None,
    ) -> None:  # fmt: skip
        self.pidfd = pidfd  # of its main process
        self.pid_namespace = pid_namespace
        self.root = root  # O_PATH
        self.mask = mask  # its capabilities
        self.cgroup = cgroup  # its directory
        self.surplus = capabilities.beyond(mask)
        self.chroot = chroot  # where the namespaces are not the container's
        self.child_ids = libc.ChildIds()
        self._own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close what stands for the container."""
        for fd in (self.pidfd, self.pid_namespace, self.root, self.cgroup, self._own_pid_namespace):
            os.close(fd)

    def fork(self, child: Callable[[], object], *, inside: bool) -> tuple[int, int]:
        """Run `child` in a new process, with `inside` one of the container's PID namespace.

        Return its pid, and the place of `child_ids` where it leaves its own.
        """
        number = self.child_ids.place()
        if inside:
            libc.setns(self.pid_namespace, libc.CLONE_NEWPID)
        try:
            pid = libc.fork_into(self.cgroup, self.child_ids.address(number))
            if pid == 0:
                _run(child)
        finally:
            if inside:
                libc.setns(self._own_pid_namespace, libc.CLONE_NEWPID)
        return pid, number


class Command:
    """What a process of the container is to execute, and as whom."""

    def __init__(
        self, argv: list[str], env: dict[str, str], *, cwd: str, login: Login, terminal: bool
    ) -> None:
        self.argv = [os.fsencode(word) for word in argv]
        self.env = {os.fsencode(key): os.fsencode(value) for key, value in env.items()}
        self.cwd = os.fsencode(cwd)
        self.login = login
        self.terminal = terminal


def execute(place: Place, command: Command, stdio: tuple[int, int, int], report: int) -> NoReturn:
    """Become `command`; what goes wrong ("stage errno") is written to `report`.

    A success writes nothing there, so that it does not wake the agent before its end closes it.
    """
    stage = b"enter"
    try:
        join(place)
        os.setsid()
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
        if command.terminal:
            control(0)
        stage = b"user"
        become(place, command.login)
        _defaults(place)
        stage = b"cwd"
        os.chdir(command.cwd)
        libc.close_on_exec_from(3)
        stage = b"exec"
        _execve(command)
    except OSError as error:
        os.write(report, b"%b %d" % (stage, error.errno or 0))
    os._exit(_FAILED)


def join(place: Place) -> None:
    """Enter the container's namespaces; its root becomes this process's."""
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(fd, b"0")
    os.close(fd)
    libc.setns(place.pidfd, _ENTERED)
    if place.chroot is not None:
        os.chroot(place.chroot)


def become(place: Place, login: Login) -> None:
    """Turn into the user, with no more rights than the container's own processes have."""
    capabilities.bound(place.surplus)
    os.setgroups(login.groups)
    os.setresgid(login.gid, login.gid, login.gid)
    os.setresuid(login.uid, login.uid, login.uid)
    if login.uid == 0:
        libc.capset(place.mask)
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)


def _run(child: Callable[[], object]) -> NoReturn:
    # Nothing may be imported from here on: the path leads into the container.
    sys.meta_path.clear()
    try:
        child()
    finally:
        os._exit(_FAILED)


def _defaults(place: Place) -> None:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    if place.mask != capabilities.ALL:
        resource.setrlimit(resource.RLIMIT_NOFILE, OPEN_FILES)


def _execve(command: Command) -> None:
    name = command.argv[0]
    if b"/" in name:
        os.execve(name, command.argv, command.env)  # noqa: S606  that is the point
    denied: OSError | None = None
    for directory in command.env.get(b"PATH", b"").split(b":"):
        try:
            path = (directory or b".") + b"/" + name
            os.execve(path, command.argv, command.env)  # noqa: S606
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            denied = error
    raise denied or FileNotFoundError(2, "")
