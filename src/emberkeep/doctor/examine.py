"""Examine this host for one configuration, as `emberkeep doctor` reports it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from emberkeep.base.aio import in_thread
from emberkeep.doctor import checks, gather
from emberkeep.doctor.accelerator import Probe, Verdict, choose
from emberkeep.doctor.facts import Accelerator, Facts, Qemu
from emberkeep.doctor.findings import Finding
from emberkeep.domain.errors import EmberkeepError


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is to be run here: the configuration, and the artifacts as they are found."""

    data: Path
    qemu: str
    accelerator: Literal["auto", "kvm", "tcg"] = "auto"
    machine: Literal["auto", "q35", "microvm"] = "auto"
    cpu: str | None = None
    kernel: Path | None = None  # None: there is none yet
    initramfs: Path | None = None
    artifacts: Mapping[str, str] = field(default_factory=dict)  # name -> its fault, "" where none
    outside: Mapping[str, Any] = field(default_factory=dict)  # more fields of `facts.Network`

    @property
    def memory(self) -> Path:
        """Where the verdict on the accelerator is kept."""
        return self.data / "accelerator.json"


async def examine(subject: Subject) -> list[Finding]:
    """Return all findings; takes a second, and the probe's deadline where it was not probed yet."""
    return checks.findings(await facts(subject))


async def facts(subject: Subject) -> Facts:
    """Look at everything that the checks judge."""
    qemu = await in_thread(gather.qemu, subject.qemu)
    rights = await in_thread(gather.rights)
    subordinate = not rights.subordinate_ids
    return Facts(
        host=await in_thread(gather.host),
        qemu=qemu,
        accelerator=await _accelerator(subject, qemu),
        network=replace(await in_thread(gather.network), **subject.outside),
        rights=rights,
        groups=await in_thread(lambda: gather.groups(subordinate_ids=subordinate)),
        disk=await in_thread(gather.disk, subject.data),
        limits=await in_thread(gather.limits),
        tools=await in_thread(gather.tools),
        artifacts=subject.artifacts,
    )


async def accelerator(subject: Subject, qemu: Qemu) -> Verdict | None:
    """Return the verdict; None before there is something to boot. Raises as `choose` does."""
    if subject.accelerator != "tcg" and (subject.kernel is None or subject.initramfs is None):
        return None
    probe = Probe(
        qemu=qemu.path,
        qemu_version=".".join(map(str, qemu.version or ())),
        kernel=subject.kernel or Path(),
        initramfs=subject.initramfs or Path(),
        machine=subject.machine,
        cpu=subject.cpu,
    )
    return await choose(subject.accelerator, probe, memory=subject.memory)


async def _accelerator(subject: Subject, qemu: Qemu) -> Accelerator:
    wish = subject.accelerator
    if qemu.version is None:
        return Accelerator(wish=wish, verdict="", evidence="there is no QEMU to try it with")
    try:
        verdict = await accelerator(subject, qemu)
    except EmberkeepError as error:
        return Accelerator(wish=wish, verdict="", evidence=error.message)
    if verdict is None:
        return Accelerator(wish=wish, verdict="", evidence="there is no kernel to try it with")
    return Accelerator(wish=wish, verdict=verdict.accelerator, evidence=verdict.evidence)
