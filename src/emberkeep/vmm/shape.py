"""The shape of a VM: all that must be the same for a snapshot to be restored."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self

from emberkeep.domain.errors import Mismatch
from emberkeep.domain.units import Memory, Size

Q35: Final = "pc-q35-8.2"
MICROVM: Final = "microvm"
# A named model that TCG has had whole since 8.2, so that a newer QEMU shows the guest the same CPU.
TCG_CPU: Final = "Haswell-v2,-pcid,-invpcid,-tsc-deadline,-x2apic,enforce=on"
KVM_CPU: Final = "host,migratable=on"
CMDLINE: Final = (
    "console=ttyS0 quiet loglevel=4 panic=-1 reboot=t nowatchdog audit=0 mitigations=off"
    # its timer would tick on in QEMU, 250 times a second, once the guest has another
    " hpet=disable"
    # a busy host looks like a bad TSC to the watchdog; all vCPUs have one and the same
    " tsc=reliable"
    # what only guards the guest's kernel from its own workload, and costs at every call
    " psi=0 lsm=landlock,yama init_on_alloc=0 randomize_kstack_offset=off hardened_usercopy=off"
    # to freeze a file system takes three grace periods, 15 ms each if nobody hurries
    " rcupdate.rcu_expedited=1"
)
PIDS: Final = "emberkeep.pids"  # a word for the agent: the most processes of the workload
DEVICES: Final = 1  # the number of the device layout in qemu/argv.py: raise it when that changes

_VERSION: Final = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a snapshot was taken with. Digests name the files, so a path may change."""

    size: Size
    accelerator: Literal["kvm", "tcg"]
    machine: str
    cpu: str
    host_cpu: str  # which CPU "host" stood for; empty for a named model
    kernel: str
    initramfs: str
    cmdline: str
    disks: tuple[tuple[str, str], ...]  # read-only disks: serial, digest
    disk_gib: int
    devices: int = DEVICES
    extra: tuple[tuple[str, int], ...] = ()  # raw disks that it may write: serial, bytes

    @property
    def key(self) -> str:
        """A short name that differs for every other shape."""
        text = json.dumps(self.record(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def record(self) -> dict[str, Any]:
        """Return plain values for meta.json."""
        plain = asdict(self)
        plain["size"] = {"memory_mib": self.size.memory.mib, "vcpus": self.size.vcpus}
        plain["disks"] = [list(disk) for disk in self.disks]
        plain["extra"] = [list(disk) for disk in self.extra]
        if not self.extra:
            del plain["extra"]  # so that shapes without are called what they always were
        return plain

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Self:
        """Read what `record` wrote; raise KeyError, TypeError or ValueError for anything else."""
        size = Size(Memory(int(record["size"]["memory_mib"])), int(record["size"]["vcpus"]))
        disks = tuple((str(serial), str(digest)) for serial, digest in record["disks"])
        extra = tuple((str(serial), int(bytes_)) for serial, bytes_ in record.get("extra", ()))
        return cls(**{**record, "size": size, "disks": disks, "extra": extra})


def check_restorable(
    shape: Shape, *, taken_by: str, qemu: str, accelerator: str, host_cpu: str
) -> None:
    """Raise `Mismatch` unless a snapshot of `shape`, taken by QEMU `taken_by`, restores here.

    A pinned q35 restores on the same or any later QEMU; `microvm` is not versioned and needs the
    very same (ENGINE-FACTS, ARCHITECTURE §9). A guest keeps the CPU it has seen.
    """
    why = _obstacle(shape, taken_by, qemu, accelerator, host_cpu)
    if why:
        raise Mismatch(
            f"the snapshot does not fit this host: {why}",
            hint="put the earlier part back, or terminate the microVM and launch a new one",
        )


def _obstacle(shape: Shape, taken_by: str, qemu: str, accelerator: str, host_cpu: str) -> str:
    if shape.devices != DEVICES:
        return f"it has device layout {shape.devices}, this Emberkeep has {DEVICES}"
    if shape.accelerator != accelerator:
        return f"it was taken under {shape.accelerator}, this host runs {accelerator}"
    if shape.host_cpu and shape.host_cpu != host_cpu:
        return f"it was taken on the CPU {shape.host_cpu}, this host has {host_cpu}"
    if shape.machine == MICROVM and version_of(taken_by) != version_of(qemu):
        return f"machine type microvm needs the QEMU it was taken with: {taken_by}, here {qemu}"
    if version_of(qemu) < version_of(taken_by):
        return f"it was taken by QEMU {taken_by}, this host has the older {qemu}"
    return ""


def version_of(text: str) -> tuple[int, int]:
    """Return (major, minor) of a QEMU version text; raise ValueError if there is none in it."""
    match = _VERSION.search(text)
    if match is None:
        raise ValueError(f"no version in {text[:60]!r}")
    return int(match[1]), int(match[2])
