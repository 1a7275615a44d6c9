"""Which capabilities the workload has, and how everything beyond them is given up."""

from typing import Final

from emberkeep_guest import libc

NAMES: Final = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
DEFAULT: Final = 0xA80425FB  # Docker's fourteen, which AWS gives too
ALL: Final = (1 << len(NAMES)) - 1


def names(mask: int) -> list[str]:
    """Return the names in `mask` as OCI writes them."""
    return [f"CAP_{name}" for number, name in enumerate(NAMES) if mask >> number & 1]


def beyond(mask: int) -> list[int]:
    """Return what the bounding set of this process holds beyond `mask`."""
    found = []
    for number in range(64):
        try:
            present = libc.prctl(libc.PR_CAPBSET_READ, number)
        except OSError:  # the kernel's last one was before it
            break
        if present and not mask >> number & 1:
            found.append(number)
    return found


def bound(numbers: list[int]) -> None:
    """Take `numbers` out of the bounding set: no execve after this can give them."""
    for number in numbers:
        libc.prctl(libc.PR_CAPBSET_DROP, number)
