"""The workload: one container that `crun` makes once, and that everything else enters."""

# pathlib would be one more import, and most of these are files of the kernel.
# ruff: noqa: PTH103, PTH123

import asyncio
import json
import os
import resource
from typing import Any, Final

from emberkeep_guest import fdio, oci, users
from emberkeep_guest.capabilities import beyond, bound
from emberkeep_guest.console import Console
from emberkeep_guest.enter import Place
from emberkeep_guest.identity import OwnFiles
from emberkeep_guest.oci import Bounds, Main
from emberkeep_guest.places import Places
from emberkeep_guest.reaper import Reaper
from emberkeep_guest.users import Login

_NAME: Final = "workload"
_CONTROLLERS: Final = ("cpu", "io", "memory", "pids")
# What is left for the agent, its forks, and what the kernel needs for thousands of processes.
_LEAST_FOR_US: Final = 32 << 20
_MOST_FOR_US: Final = 128 << 20
_SHARE_FOR_US: Final = 8  # an eighth, between these two
_LEAST_MEMORY: Final = 32 << 20
_MOST_CONFIG: Final = 1 << 20
_LAST_WORDS_S: Final = 0.2
_PIDS: Final = "emberkeep.pids"  # on the kernel's command line


class NotStarted(Exception):
    """The container could not be started."""


class Workload:
    """The container, from its start on."""

    def __init__(self, pid: int, place: Place, main: Main, own: OwnFiles) -> None:
        self.pid = pid  # as the agent sees it
        self.place = place
        self.own = own
        self.user = main.user
        self.cwd = main.cwd
        self.env = main.env
        self.status: int | None = None  # the wait status, once it has ended
        self.ended = asyncio.Event()

    def has_ended(self, status: int) -> None:
        """Note that the main process has ended, and every other one of the container with it."""
        self.status = status
        self.ended.set()


async def start(places: Places, reaper: Reaper, console: Console) -> Workload:
    """Make the container and start its main process."""
    main = main_of(_read_config(places.config))
    root = os.open(places.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    login = users.login(root, main.user)
    os.close(root)
    own = OwnFiles(places.own)
    config = oci.configuration(
        main, login, root=places.root, own=places.own, init=places.init,
        bounds=_bounds(_enable_controllers(places.cgroups)),
    )  # fmt: skip
    os.makedirs(places.bundle, exist_ok=True)
    _write_config(f"{places.bundle}/config.json", config)
    pid = await _run(places, reaper, console, login)
    pidfd = os.pidfd_open(pid)
    cgroup = os.open(places.cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    workload = Workload(pid, _place(pid, pidfd, main.mask, cgroup), main, own)
    reaper.watch(pid, workload.has_ended)
    return workload


def confine_agent(workload: Workload) -> None:
    """Give up for good what no child of ours may have: a fork needs not do it again."""
    if os.getpid() == 1:
        bound(workload.place.surplus)
        workload.place.surplus = beyond(workload.place.mask)


def main_of(config: dict[str, Any]) -> Main:
    """Return the main process that a configuration says; raise NotStarted if it makes no sense."""
    known = {"argv": list, "env": dict, "cwd": str, "user": str, "every_capability": bool}
    for name, value in config.items():
        if not isinstance(value, known.get(name, ())):
            raise NotStarted(f"config.json: {name} is unknown or of the wrong type")
    texts = [*config.get("argv", ()), *config.get("env", {}).values()]
    if not all(isinstance(text, str) and "\0" not in text for text in texts):
        raise NotStarted("config.json: argv and env hold strings without zero bytes")
    return Main(**config)


def _place(pid: int, pidfd: int, mask: int, cgroup: int) -> Place:
    return Place(
        pidfd=pidfd,
        pid_namespace=os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC),
        root=os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),
        mask=mask,
        cgroup=cgroup,
    )


def _read_config(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            config = json.loads(file.read(_MOST_CONFIG))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise NotStarted(f"config.json: {error}") from None
    if not isinstance(config, dict):
        raise NotStarted("config.json: not an object")
    return config


def _write_config(path: str, config: dict[str, Any]) -> None:
    with open(path, "w") as file:
        json.dump(config, file)


def _enable_controllers(cgroups: str) -> list[str]:
    """Switch on the controllers that there are; return them."""
    with open(f"{cgroups}/cgroup.controllers") as file:
        found = [name for name in file.read().split() if name in _CONTROLLERS]
    if found:
        with open(f"{cgroups}/cgroup.subtree_control", "w") as file:
            file.write(" ".join(f"+{name}" for name in found))
    return found


def _bounds(controllers: list[str]) -> Bounds:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for_us = min(max(memory // _SHARE_FOR_US, _LEAST_FOR_US), _MOST_FOR_US)
    pids = min(_number("/proc/sys/kernel/threads-max"), _number("/proc/sys/kernel/pid_max"))
    return Bounds(
        memory=max(memory - for_us, _LEAST_MEMORY) if "memory" in controllers else 0,
        pids=min(pids // 2, _most_pids()) if "pids" in controllers else 0,
    )


def _most_pids() -> int:
    """Return what the host said on the kernel's command line, else more than there can be."""
    with open("/proc/cmdline") as file:
        words = dict(word.partition("=")[::2] for word in file.read().split())
    said = words.get(_PIDS, "")
    return int(said) if said.isdecimal() else 1 << 22


def _number(path: str) -> int:
    with open(path) as file:
        return int(file.read())


async def _run(places: Places, reaper: Reaper, console: Console, login: Login) -> int:
    """Run `crun run --detach`; what it and the main process write goes to the console."""
    ours, theirs = fdio.pipe_from()
    os.fchown(theirs, login.uid, -1)
    pid_file = f"{places.bundle}/pid"
    argv = [
        places.crun, "--root", places.crun_state, "--cgroup-manager=cgroupfs", "run", "--detach",
        f"--pid-file={pid_file}", f"--bundle={places.bundle}", _NAME,
    ]  # fmt: skip
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        crun = os.posix_spawn(  # noqa: ASYNC221  it does not wait for the process
            argv[0], argv, {"PATH": os.defpath},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, theirs, 1),
                (os.POSIX_SPAWN_DUP2, theirs, 2),
            ],
        )  # fmt: skip
    finally:
        os.close(null)
        os.close(theirs)
    console.relay(ours)
    status = os.waitstatus_to_exitcode(await reaper.wait(crun))
    if status != 0:
        await asyncio.sleep(_LAST_WORDS_S)  # what it has said is on its way to the console
        raise NotStarted(await _said(console) or f"crun ended with {status}")
    return _number(pid_file)


async def _said(console: Console) -> str:
    """Return the last line that came out of the container, or of `crun` in its place."""
    if not console.output.end:
        return ""
    _, data = await console.output.read(0, 1 << 20)
    lines = data.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def raise_limits() -> None:
    """Allow the agent as many open files as the kernel gives."""
    most = _number("/proc/sys/fs/nr_open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536), most))
