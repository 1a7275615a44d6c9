"""Starting one QEMU in its jail, with every file as a descriptor."""

import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from emberkeep.base import aio, priority, proc, sockets
from emberkeep.domain.errors import EmberkeepError, Mismatch, Unavailable
from emberkeep.domain.microvms import ProcessIdentity
from emberkeep.vmm.bounds import bounds_of, yielding
from emberkeep.vmm.cells import Cell, Cells
from emberkeep.vmm.jail import FIRST_FD
from emberkeep.vmm.machine import AGENT_SOCKET, CONSOLE_SOCKET, QMP_SOCKET, Machine
from emberkeep.vmm.qemu.argv import INITRAMFS, KERNEL, MEMORY, Descriptors, cold, qemu_argv
from emberkeep.vmm.qemu.monitor import Monitor
from emberkeep.vmm.settings import VmmSettings
from emberkeep.vmm.shape import Shape

_START_DEADLINE_S: Final = 60.0
_END_DEADLINE_S: Final = 30.0
_NOFILE: Final = 256
_DISK_HEADROOM: Final = 64 << 20  # what a qcow2 file needs beside its data, generously
_COPIES: Final = ("/proc/sys/vm/overcommit_memory",)  # read by QEMU before it maps with reserve=off
_STDERR_BYTES: Final = 16 * 1024
_UNKNOWN: Final = ("unsupported machine type", "unable to find CPU model")

Span = Callable[[str], AbstractContextManager[None]]  # measures the block under a name


def unmeasured(_: str) -> AbstractContextManager[None]:
    """Be the `Span` of who does not want to know."""
    return nullcontext()


@dataclass(frozen=True, slots=True, kw_only=True)
class VmmHost:
    """What this host runs VMs with, found out once."""

    qemu: Path
    version: str
    accelerator: str
    host_cpu: str  # what "-cpu host" stands for here
    cells: Cells
    settings: VmmSettings = field(default_factory=VmmSettings)
    disk: str = ""  # major:minor of the disk that microVMs write to, where that is known
    visible: tuple[Path, ...] = ()  # more of the host for the binary or wrapper, read-only


@dataclass(frozen=True, slots=True, kw_only=True)
class Berth:
    """What one VM is given: a name, a user, a folder, a network slot, and its files."""

    mark: str  # in the command line, so that the process is found after a crash
    uid: int  # 0: there is no second user here; the capabilities are dropped all the same
    run: Path
    netns_fd: int
    tap_fd: int
    kernel: Path
    initramfs: Path
    memory: Path  # mapped privately, read-only at its source
    disks: Mapping[str, Path]  # serial -> read-only disk
    overlay: Path
    base: Path | None = None  # the raw disk below the overlay; None: `overlay` is raw
    extra: Mapping[str, Path] = field(default_factory=dict)  # serial -> raw disk it may write
    patient: bool = False  # nobody waits for it yet: it yields to all others


async def start(
    host: VmmHost, shape: Shape, berth: Berth, *, from_nothing: bool, span: Span = unmeasured
) -> Machine:
    """Start a stopped VM; raise `Unavailable` or `Mismatch` with QEMU's words if it does not."""
    async with _taken(host.cells) as cell:
        with ExitStack() as held:
            errors, errors_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            held.callback(os.close, errors)
            with ExitStack() as given, span("jail"):
                given.callback(os.close, errors_in)
                fds = _Handed([errors_in, berth.netns_fd], given)
                argv = qemu_argv(shape, os.fspath(host.qemu), berth.mark, _opened(fds, berth))
                argv = cold(argv) if from_nothing else argv
                spec = _spec(host, shape, berth, argv)
                bounds = bounds_of(shape.size, host.settings, host.disk)
                try:
                    pid = await cell.become(spec, fds.numbers, bounds)
                except OSError as error:
                    raise Unavailable(f"cannot start the VMM: {error}") from error
            if pid is None:
                raise _told(host, _read(errors))
            pidfd = os.pidfd_open(pid)
            try:
                with span("qemu"):
                    machine = await _greeted(shape, berth, cell, (pid, pidfd))
            except EmberkeepError as error:
                await proc.gone(pidfd)
                raise _told(host, _read(errors)) from error
            except BaseException:
                await aio.finish(proc.gone(pidfd), within=_END_DEADLINE_S)
                raise
    host.cells.refill()
    return machine


@asynccontextmanager
async def _taken(cells: Cells) -> AsyncGenerator[Cell]:
    """Give a cell; what it has become ends with a failure of the block."""
    cell = await cells.take()
    try:
        yield cell
    except BaseException:
        await aio.finish(cell.discard(), within=_END_DEADLINE_S)
        raise


@dataclass(frozen=True, slots=True)
class _Handed:
    """Descriptors on their way to a VMM, open for the length of `held`; it knows them by number."""

    numbers: list[int]
    held: ExitStack

    def give(self, fd: int) -> int:
        """Hand on `fd`; return what it is called there."""
        self.numbers.append(fd)
        return FIRST_FD + len(self.numbers) - 3  # the first two are the jail's

    def file(self, path: Path, flags: int) -> int:
        """Open a file and hand it on."""
        fd = os.open(path, flags | os.O_CLOEXEC)
        self.held.callback(os.close, fd)
        return self.give(fd)

    def socket(self, path: Path) -> int:
        """Bind a socket and hand it on."""
        path.unlink(missing_ok=True)
        return self.give(self.held.enter_context(sockets.listening(path)).fileno())


def _opened(fds: _Handed, berth: Berth) -> Descriptors:
    """Open the VM's files and bind its sockets."""
    return Descriptors(
        qmp=fds.socket(berth.run / QMP_SOCKET),
        agent=fds.socket(berth.run / AGENT_SOCKET),
        console=fds.socket(berth.run / CONSOLE_SOCKET),
        tap=fds.give(berth.tap_fd),
        disks={serial: fds.file(path, os.O_RDONLY) for serial, path in berth.disks.items()},
        overlay=fds.file(berth.overlay, os.O_RDWR),
        base=fds.file(berth.base, os.O_RDONLY) if berth.base else None,
        extra={serial: fds.file(path, os.O_RDWR) for serial, path in berth.extra.items()},
    )


def _spec(host: VmmHost, shape: Shape, berth: Berth, argv: list[str]) -> dict[str, Any]:
    """Say what the jail is to hold."""
    root = berth.run / "root"
    root.mkdir(exist_ok=True)
    binds = [
        (berth.kernel, KERNEL),
        (berth.initramfs, INITRAMFS),
        (berth.memory, MEMORY),
        *((path, os.fspath(path)) for path in host.visible),
    ]
    return {
        "argv": argv,
        "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        "uid": berth.uid,
        "groups": Path("/proc/self/setgroups").read_text("ascii").strip() == "allow",
        "root": os.fspath(root),
        "binds": [(os.fspath(source), target, False) for source, target in binds],
        "copies": _COPIES,
        "devices": ["null", "urandom", *(["kvm"] if shape.accelerator == "kvm" else [])],
        "nofile": _NOFILE,
        "fsize": _longest(shape),
    }


def _longest(shape: Shape) -> int:
    """Return how long a file of the VM may get, in bytes."""
    overlay = (shape.disk_gib << 30) + (shape.disk_gib << 24) + _DISK_HEADROOM
    return max([overlay, *(bytes_ for _, bytes_ in shape.extra)])


async def _greeted(shape: Shape, berth: Berth, cell: Cell, process: tuple[int, int]) -> Machine:
    pid, pidfd = process
    if berth.patient:
        priority.lower(pid)
        yielding(cell.group)
    ticks = proc.start_ticks(pid)
    monitor = await Monitor.connected(berth.run / QMP_SOCKET, deadline_s=_START_DEADLINE_S)
    identity = ProcessIdentity(pid=pid, start_ticks=ticks or 0, boot_id=proc.host_boot_id())
    return Machine(
        identity=identity, pidfd=pidfd, monitor=monitor, run=berth.run, shape=shape,
        memory=berth.memory, group=cell.group,
    )  # fmt: skip


def _read(fd: int) -> str:
    with contextlib.suppress(BlockingIOError):
        return os.read(fd, _STDERR_BYTES).decode(errors="replace").strip()
    return ""


def _told(host: VmmHost, text: str) -> EmberkeepError:
    """Turn QEMU's last words into an error."""
    lines = text.splitlines() or ["it ended without a word"]
    for line in lines:  # behind this one QEMU may say how to list what there is
        if any(words in line for words in _UNKNOWN):
            return Mismatch(
                f"{host.qemu} {host.version}: {line[:300]}", hint="install a newer QEMU"
            )
    return Unavailable(f"the VMM did not start: {lines[-1][:300]}", hint="see: emberkeep doctor")
