"""The command line of QEMU: from a shape to words, with no look at the host."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from emberkeep.vmm.shape import MICROVM, Shape

MEMORY: Final = "/image/memory.img"
KERNEL: Final = "/image/kernel"
INITRAMFS: Final = "/image/initramfs"
AGENT_PORT: Final = "emberkeep.agent"
MAC: Final = "02:ee:00:00:00:01"  # the same for all: each lives in a network namespace of its own
SANDBOX: Final = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
_NET: Final = "guest_announce=off"  # nobody outside the slot has known it under another address
_NO_FLUSH: Final = "cache.no-flush=on"
_QCOW2: Final = f"driver=qcow2,discard=unmap,{_NO_FLUSH}"
TB_SIZE_MIB: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptors:
    """The numbers of the descriptors that QEMU inherits."""

    qmp: int
    agent: int
    console: int
    tap: int
    disks: Mapping[str, int]  # serial of a read-only disk -> descriptor
    overlay: int
    base: int | None = None  # the raw disk below the overlay; None: `overlay` is raw itself
    extra: Mapping[str, int] = field(default_factory=dict)  # serial of a raw disk -> descriptor


def qemu_argv(shape: Shape, binary: str, mark: str, fds: Descriptors) -> list[str]:
    """Return the command line of a stopped VM that waits for its device state or for `cont`."""
    return [
        binary, "-name", f"{mark},debug-threads=on",
        "-nodefaults", "-no-user-config", "-no-reboot", "-S", "-display", "none",
        "-sandbox", SANDBOX,
        *_board(shape),
        *_memory(shape),
        "-kernel", KERNEL, "-initrd", INITRAMFS, "-append", shape.cmdline,
        *_sockets(fds),
        *_disks(shape, fds),
        *_channel(shape),
        "-netdev", f"tap,id=net0,fd={fds.tap}",
        "-device", f"{_virtio(shape, 'net', 2)},netdev=net0,mac={MAC},{_NET}{_no_rom(shape)}",
        "-global", "migration.send-configuration=off",
        "-incoming", "defer",
    ]  # fmt: skip


def cold(argv: Sequence[str]) -> list[str]:
    """Return the command line of a VM that starts from nothing instead of a snapshot."""
    return list(argv[:-2])


def _board(shape: Shape) -> list[str]:
    if shape.machine == MICROVM:
        board = "microvm,acpi=on,rtc=on,pit=on,pic=on,isa-serial=on"
    else:
        board = f"{shape.machine},usb=off,sata=off,smbus=off,vmport=off,graphics=off"
    accelerator = f"tcg,thread=multi,tb-size={TB_SIZE_MIB}" if shape.accelerator == "tcg" else "kvm"
    return [
        "-machine", f"{board},memory-backend=mem,suppress-vmdesc=on",
        "-accel", accelerator,
        "-cpu", shape.cpu,
        "-smp", f"cpus={shape.size.vcpus},sockets=1,cores={shape.size.vcpus},threads=1",
        "-rtc", "base=utc,clock=host",
    ]  # fmt: skip


def _memory(shape: Shape) -> list[str]:
    """Guest memory is a private mapping of a file that this process can only read."""
    size = f"{shape.size.memory.mib}M"
    backend = f"memory-backend-file,id=mem,size={size},mem-path={MEMORY}"
    return [
        "-m", size,
        "-object", f"{backend},share=off,readonly=on,rom=off,reserve=off,prealloc=off",
    ]  # fmt: skip


def _sockets(fds: Descriptors) -> list[str]:
    def listening(name: str, fd: int) -> list[str]:
        return ["-chardev", f"socket,id={name},fd={fd},server=on,wait=off"]

    return [
        *listening("qmp", fds.qmp), "-mon", "chardev=qmp,mode=control",
        *listening("console", fds.console), "-serial", "chardev:console",
        *listening("agent", fds.agent),
    ]  # fmt: skip


def _channel(shape: Shape) -> list[str]:
    return [
        "-device", f"{_virtio(shape, 'serial', 1)},id=channel,max_ports=2",
        "-device", f"virtserialport,bus=channel.0,nr=1,chardev=agent,name={AGENT_PORT}",
    ]  # fmt: skip


def _disks(shape: Shape, fds: Descriptors) -> list[str]:
    words: list[str] = []
    for slot, (serial, _) in enumerate(shape.disks, start=4):
        words += [
            "-add-fd", f"fd={fds.disks[serial]},set={slot}",
            "-blockdev", f"driver=file,node-name={serial},filename=/dev/fdset/{slot},read-only=on",
            "-device", f"{_virtio(shape, 'blk', slot)},drive={serial},serial={serial}",
        ]  # fmt: skip
    return [*words, *_overlay(fds), *_writable(shape), *_extra(shape, fds)]


def _extra(shape: Shape, fds: Descriptors) -> list[str]:
    words: list[str] = []
    for slot, (serial, _) in enumerate(shape.extra, start=4 + len(shape.disks)):
        file = f"driver=file,discard=unmap,{_NO_FLUSH},filename=/dev/fdset/{slot}"
        words += [
            "-add-fd", f"fd={fds.extra[serial]},set={slot}",
            "-blockdev", f"{file},node-name={serial}",
            "-device", f"{_virtio(shape, 'blk', slot)},drive={serial},serial={serial},discard=on",
        ]  # fmt: skip
    return words


def _writable(shape: Shape) -> list[str]:
    return ["-device", f"{_virtio(shape, 'blk', 3)},drive=disk,serial=disk,discard=on"]


def _overlay(fds: Descriptors) -> list[str]:
    # A guest's flush reaches the host's page cache, not its disk: when the host loses power this VM
    # is lost with it, and a suspend syncs the file itself.
    file = f"driver=file,discard=unmap,{_NO_FLUSH},filename=/dev/fdset"
    if fds.base is None:
        return [
            "-add-fd", f"fd={fds.overlay},set=2",
            "-blockdev", f"{file}/2,node-name=disk",
        ]  # fmt: skip
    return [
        "-add-fd", f"fd={fds.base},set=1",
        "-blockdev", "driver=file,node-name=base,filename=/dev/fdset/1,read-only=on",
        "-add-fd", f"fd={fds.overlay},set=2",
        "-blockdev", f"{file}/2,node-name=overlay",
        "-blockdev", f"{_QCOW2},node-name=disk,file=overlay,backing=base",
    ]  # fmt: skip


def _virtio(shape: Shape, kind: str, slot: int) -> str:
    """Name a virtio device on the board's bus, on a fixed address so that every restore agrees."""
    if shape.machine == MICROVM:
        return f"virtio-{kind}-device"
    return f"virtio-{kind}-pci,addr={slot:#x},disable-legacy=on"


def _no_rom(shape: Shape) -> str:
    return "" if shape.machine == MICROVM else ",romfile="
