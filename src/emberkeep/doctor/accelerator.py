"""Find out whether KVM works here, by booting a guest with it, and remember the answer.

The device file proves nothing: on some hosts it opens, makes VMs, and runs them a thousand times
too slowly. So the real kernel is booted with an initramfs that says at once that it is alive.
"""

import contextlib
import hashlib
import os
import selectors
import signal
import subprocess  # noqa: TID251  base.proc runs what ends by itself; this is killed when it spoke
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from emberkeep.base.aio import in_thread
from emberkeep.base.proc import host_boot_id
from emberkeep.domain.errors import Unavailable

DEADLINE_S: Final = 3.0
ALIVE: Final = b"EMBERKEEP-ALIVE"
KVM: Final = Path("/dev/kvm")

_MICROVM: Final = "microvm,acpi=on,rtc=on,pit=on,pic=on,isa-serial=on"
_Q35: Final = "pc-q35-8.2,usb=off,sata=off,smbus=off,vmport=off,graphics=off"
_MOST_OUTPUT: Final = 64 * 1024
_END_S: Final = 2.0

Kind = Literal["kvm", "tcg"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Which accelerator to use, and how we know."""

    accelerator: Kind
    evidence: str
    probe_s: float = 0.0  # how long the probe took; 0 where none was needed


class _Remembered(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What to boot."""

    qemu: str
    qemu_version: str
    kernel: Path
    initramfs: Path
    machine: Literal["auto", "q35", "microvm"] = "auto"
    cpu: str | None = None
    deadline_s: float = DEADLINE_S
    device: Path = KVM


async def choose(wish: Literal["auto", "kvm", "tcg"], probe: Probe, *, memory: Path) -> Verdict:
    """Return the accelerator to use; `Unavailable` if KVM is wished for and does not work.

    The answer is kept in the file `memory` until the host is booted again or something of the
    probe changes.
    """
    if wish == "tcg":
        return Verdict(accelerator="tcg", evidence="vmm.accelerator says so")
    verdict = await in_thread(_remembered_or_probed, probe, memory)
    if wish == "kvm" and verdict.accelerator != "kvm":
        raise Unavailable(
            f"vmm.accelerator is kvm, but KVM does not work here: {verdict.evidence}",
            hint="set vmm.accelerator to auto or tcg, or give this host a working /dev/kvm",
        )
    return verdict


def obstacle(device: Path = KVM) -> str:
    """Return why KVM cannot even be tried; "" if it can."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"there is no {device}"
    except OSError as error:
        return f"{device} does not open: {error.strerror}"
    return ""


def probed(probe: Probe) -> Verdict:
    """Boot the guest under KVM and say what came of it."""
    if why := obstacle(probe.device):
        return Verdict(accelerator="tcg", evidence=why)
    started = time.monotonic()
    try:
        alive, said = _sign_of_life(argv(probe), probe.deadline_s)
    except OSError as error:
        return Verdict(accelerator="tcg", evidence=f"{probe.qemu} does not start: {error}")
    took = round(time.monotonic() - started, 3)
    if alive:
        evidence = f"a guest under KVM gave its sign of life after {took:.2f} s"
        return Verdict(accelerator="kvm", evidence=evidence, probe_s=took)
    evidence = f"{probe.device} opens, but {_failure(said, took, probe.deadline_s)}"
    return Verdict(accelerator="tcg", evidence=evidence, probe_s=took)


def argv(probe: Probe) -> list[str]:
    """Return the command that boots the guest, its console on standard output."""
    return [
        probe.qemu, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-machine", _Q35 if probe.machine == "q35" else _MICROVM,
        "-accel", "kvm", "-cpu", probe.cpu or "host", "-m", "128M", "-smp", "1",
        "-kernel", str(probe.kernel), "-initrd", str(probe.initramfs),
        "-append", "console=ttyS0 quiet loglevel=4 panic=-1 reboot=t emberkeep.probe",
        "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
    ]  # fmt: skip


def _remembered_or_probed(probe: Probe, memory: Path) -> Verdict:
    key = _key(probe)
    with contextlib.suppress(OSError, msgspec.DecodeError):
        remembered = msgspec.json.decode(memory.read_bytes(), type=_Remembered)
        if remembered.key == key:
            return remembered.verdict
    verdict = probed(probe)
    with contextlib.suppress(OSError):  # then it is found out again the next time
        memory.parent.mkdir(parents=True, exist_ok=True)
        new = memory.with_name(memory.name + ".new")
        new.write_bytes(msgspec.json.encode(_Remembered(key=key, verdict=verdict)))
        new.replace(memory)
    return verdict


def _key(probe: Probe) -> str:
    """Everything the answer depends on: this boot, the device and our right to it, the guest."""
    parts = [
        host_boot_id(), probe.qemu, probe.qemu_version, probe.machine, probe.cpu or "",
        str(probe.deadline_s), _identity(probe.device), obstacle(probe.device),
        _digest(probe.kernel), _digest(probe.initramfs),
    ]  # fmt: skip
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _identity(device: Path) -> str:
    try:
        it = device.stat()
    except OSError:
        return ""
    return f"{it.st_dev} {it.st_ino} {it.st_rdev} {it.st_mode} {it.st_uid} {it.st_gid}"


def _digest(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _sign_of_life(command: Sequence[str], deadline_s: float) -> tuple[bool, bytes]:
    """Run `command` until it says `ALIVE`, ends or is late; return whether, and all it said."""
    process = subprocess.Popen(  # noqa: S603  no shell, the configured QEMU
        ["setpriv", "--pdeathsig", "KILL", "--", *command],  # noqa: S607  it must not outlive us
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        if process.stdout is None:
            raise AssertionError("started with a pipe")
        with process.stdout:
            said = _read_until_alive(process.stdout.fileno(), time.monotonic() + deadline_s)
    finally:
        _kill(process)
    return ALIVE in said, said


def _read_until_alive(fd: int, until: float) -> bytes:
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while ALIVE not in said and len(said) < _MOST_OUTPUT:
            left = until - time.monotonic()
            if left <= 0 or not selector.select(left):
                break
            piece = os.read(fd, 4096)
            if not piece:
                break
            said += piece
    return said


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill it by its pidfd; one that the kernel does not let go is left behind, not waited for."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(process.pid)
        try:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)


def _failure(said: bytes, took: float, deadline_s: float) -> str:
    if took >= deadline_s:
        return f"a guest gave no sign of life within {deadline_s:g} s"
    lines = said.decode(errors="replace").strip().splitlines()
    return f"the VM ended after {took:.1f} s: {lines[0][:200] if lines else 'it said nothing'}"
