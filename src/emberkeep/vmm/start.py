"""Starting one QEMU in its jail, with every file as a descriptor."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from emberkeep.base import aio, priority, proc, sockets
from emberkeep.domain.errors import EmberkeepError, Mismatch, Unavailable
from emberkeep.domain.microvms import ProcessIdentity
from emberkeep.vmm import jail
from emberkeep.vmm.machine import AGENT_SOCKET, CONSOLE_SOCKET, QMP_SOCKET, Machine
from emberkeep.vmm.qemu.argv import INITRAMFS, KERNEL, MEMORY, Descriptors, cold, qemu_argv
from emberkeep.vmm.qemu.monitor import Monitor
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
    patient: bool = False  # nobody waits for it yet: it yields to all others


async def start(
    host: VmmHost, shape: Shape, berth: Berth, *, from_nothing: bool, span: Span = unmeasured
) -> Machine:
    """Start a stopped VM; raise `Unavailable` or `Mismatch` with QEMU's words if it does not."""
    with ExitStack() as held:
        errors, errors_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        held.callback(os.close, errors)
        with ExitStack() as given:
            given.callback(os.close, errors_in)
            fds = _opened(given, berth)
            argv = qemu_argv(shape, os.fspath(host.qemu), berth.mark, fds)
            argv = cold(argv) if from_nothing else argv
            try:
                with span("jail"):
                    pid = await _jailed(_spec(host, shape, berth, argv, fds), berth, errors_in)
            except OSError as error:
                raise Unavailable(f"cannot start the VMM: {error}") from error
        if pid is None:
            raise _told(host, _read(errors))
        pidfd = os.pidfd_open(pid)
        try:
            with span("qemu"):
                return await _greeted(shape, berth, pid, pidfd)
        except EmberkeepError as error:
            await proc.gone(pidfd)
            raise _told(host, _read(errors)) from error
        except BaseException:
            await aio.finish(proc.gone(pidfd), within=_END_DEADLINE_S)
            raise


def _opened(held: ExitStack, berth: Berth) -> Descriptors:
    """Open the VM's files and bind its sockets for the length of `held`."""

    def socket(name: str) -> int:
        path = berth.run / name
        path.unlink(missing_ok=True)
        return held.enter_context(sockets.listening(path)).fileno()

    def file(path: Path, flags: int) -> int:
        fd = os.open(path, flags | os.O_CLOEXEC)
        held.callback(os.close, fd)
        return fd

    return Descriptors(
        qmp=socket(QMP_SOCKET),
        agent=socket(AGENT_SOCKET),
        console=socket(CONSOLE_SOCKET),
        tap=berth.tap_fd,
        disks={serial: file(path, os.O_RDONLY) for serial, path in berth.disks.items()},
        overlay=file(berth.overlay, os.O_RDWR),
        base=file(berth.base, os.O_RDONLY) if berth.base else None,
    )


def _spec(
    host: VmmHost, shape: Shape, berth: Berth, argv: list[str], fds: Descriptors
) -> dict[str, Any]:
    """Say what the jail is to hold."""
    root = berth.run / "root"
    root.mkdir(exist_ok=True)
    binds = [
        (berth.kernel, KERNEL),
        (berth.initramfs, INITRAMFS),
        (berth.memory, MEMORY),
        *((path, os.fspath(path)) for path in host.visible),
    ]
    base = [] if fds.base is None else [fds.base]
    return {
        "argv": argv,
        "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        "uid": berth.uid,
        "groups": Path("/proc/self/setgroups").read_text("ascii").strip() == "allow",
        "netns_fd": berth.netns_fd,
        "root": os.fspath(root),
        "binds": [(os.fspath(source), target, False) for source, target in binds],
        "copies": _COPIES,
        "devices": ["null", "urandom", *(["kvm"] if shape.accelerator == "kvm" else [])],
        "keep_fds": [
            fds.qmp, fds.agent, fds.console, fds.tap, fds.overlay, *base, *fds.disks.values(),
        ],
        "nofile": _NOFILE,
        "fsize": (shape.disk_gib << 30) + (shape.disk_gib << 24) + _DISK_HEADROOM,
    }  # fmt: skip


async def _jailed(spec: dict[str, Any], berth: Berth, stderr: int) -> int | None:
    """Run the jail script; return the host pid of the VMM, or None if it did not come to be."""
    with ExitStack() as held:
        told, tell = os.pipe2(os.O_CLOEXEC)
        held.callback(os.close, told)
        words = os.memfd_create("jail", os.MFD_CLOEXEC)
        os.write(words, json.dumps({**spec, "pid_fd": tell}).encode())
        os.lseek(words, 0, os.SEEK_SET)
        python = sys.executable
        try:
            child = proc.spawn(
                [python, "-I", "-S", "-E", jail.__file__, berth.mark, str(words)],
                pass_fds=[words, tell, spec["netns_fd"], *spec["keep_fds"]],
                stderr=stderr,
            )
        finally:
            os.close(tell)
            os.close(words)
        if berth.patient:
            priority.lower(child.pid)
        text = bytearray()
        try:
            await _read_all(told, text)
        except BaseException:
            child.wait()
            with contextlib.suppress(BlockingIOError):
                text += os.read(told, 64)
            if text:
                await aio.finish(proc.gone(os.pidfd_open(int(text))), within=_END_DEADLINE_S)
            raise
        child.wait()  # it has said all it will say and is at its end
    return int(text) if text.endswith(b"\n") else None


async def _read_all(fd: int, text: bytearray) -> None:
    """Read a pipe to its end into `text` without blocking the event loop."""
    os.set_blocking(fd, False)
    while True:
        await proc.readable(fd)
        piece = os.read(fd, 64)
        if not piece:
            return
        text += piece


async def _greeted(shape: Shape, berth: Berth, pid: int, pidfd: int) -> Machine:
    if berth.patient:
        priority.lower(pid)  # again: it has a session of its own
    ticks = proc.start_ticks(pid)
    monitor = await Monitor.connected(berth.run / QMP_SOCKET, deadline_s=_START_DEADLINE_S)
    identity = ProcessIdentity(pid=pid, start_ticks=ticks or 0, boot_id=proc.host_boot_id())
    return Machine(
        identity=identity, pidfd=pidfd, monitor=monitor, run=berth.run, shape=shape,
        memory=berth.memory,
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
