"""What the container is, as an OCI runtime configuration: Docker's defaults, with the VM's network.

Pure: from values to a value.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from emberkeep_guest import capabilities
from emberkeep_guest.enter import OPEN_FILES
from emberkeep_guest.users import Login

INIT: Final = "/.emberkeep/init"
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_MASKED: Final = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
_READ_ONLY: Final = (
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
    "/proc/sys/kernel/random/boot_id",  # again: what is mounted below /proc/sys is not covered
)  # fmt: skip
_ANY: Final = -1
_DEVICES: Final = (  # (type, major, minor, access)
    ("c", _ANY, _ANY, "m"), ("b", _ANY, _ANY, "m"),
    ("c", 1, 3, "rwm"), ("c", 1, 5, "rwm"), ("c", 1, 7, "rwm"), ("c", 1, 8, "rwm"),
    ("c", 1, 9, "rwm"), ("c", 5, 0, "rwm"), ("c", 5, 2, "rwm"), ("c", 136, _ANY, "rwm"),
)  # fmt: skip
_FUSE: Final = {
    "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229,
    "fileMode": 0o666, "uid": 0, "gid": 0,
}  # fmt: skip
# Mounted over files of the container: source in the agent's own folder, whether writable.
_OWN_FILES: Final = (
    ("hostname", "/etc/hostname", True),
    ("hosts", "/etc/hosts", True),
    ("resolv.conf", "/etc/resolv.conf", True),
    ("machine-id", "/etc/machine-id", False),
    ("boot_id", "/proc/sys/kernel/random/boot_id", False),
)
OWN_FILES: Final = tuple(name for name, _, _ in _OWN_FILES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Main:
    """The main process, as the image wants it; without a command it is our own init."""

    argv: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: str = "0"
    every_capability: bool = False

    @property
    def mask(self) -> int:
        """Its capabilities."""
        return capabilities.ALL if self.every_capability else capabilities.DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the workload may take of the VM, so that the agent always has enough; 0 is no bound."""

    memory: int = 0
    pids: int = 0


def configuration(
    main: Main, login: Login, *, root: str, own: str, init: str, bounds: Bounds
) -> dict[str, Any]:
    """Return `config.json` of the container."""
    return {
        "ociVersion": "1.0.0",
        "root": {"path": root, "readonly": False},
        "process": _process(main, login),
        "mounts": [*_mounts(main), *_own_mounts(own, init)],
        "linux": {
            "devices": [_FUSE] if main.every_capability else [],
            "cgroupsPath": "/workload",
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "cgroup")],
            "resources": _resources(bounds, everything=main.every_capability),
            "maskedPaths": [] if main.every_capability else list(_MASKED),
            "readonlyPaths": [] if main.every_capability else list(_READ_ONLY),
            "rootfsPropagation": "rprivate",
        },
    }


def _process(main: Main, login: Login) -> dict[str, Any]:
    names = capabilities.names(main.mask)
    held = names if login.uid == 0 else []
    soft, hard = OPEN_FILES
    env = {"PATH": PATH, "HOME": login.home, **main.env}
    return {
        "terminal": False,
        "user": {"uid": login.uid, "gid": login.gid, "additionalGids": login.groups},
        "args": main.argv or [INIT, "-P"],
        "env": [f"{name}={value}" for name, value in env.items()],
        "cwd": main.cwd,
        "capabilities": {
            "bounding": names, "permitted": held, "effective": held,
            "inheritable": [], "ambient": [],
        },
        "rlimits": []
        if main.every_capability
        else [{"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard}],
        "noNewPrivileges": True,
        "oomScoreAdj": 0,
    }  # fmt: skip


def _mounts(main: Main) -> list[dict[str, Any]]:
    plain = ["nosuid", "noexec", "nodev"]
    shm = [*plain, "mode=1777", "size=65536k"]
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    sys = plain if main.every_capability else [*plain, "ro"]
    mounts = [
        _mount("proc", "/proc", plain),
        _mount("tmpfs", "/dev", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("devpts", "/dev/pts", pts),
        _mount("sysfs", "/sys", sys),
        _mount("mqueue", "/dev/mqueue", plain),
        _mount("tmpfs", "/dev/shm", shm, source="shm"),  # noqa: S108  the container's
    ]
    if main.every_capability:
        mounts.append(_mount("cgroup", "/sys/fs/cgroup", plain))
    return mounts


def _own_mounts(own: str, init: str) -> list[dict[str, Any]]:
    files = [(f"{own}/{name}", target, writable) for name, target, writable in _OWN_FILES]
    return [
        _mount(
            "bind", target, ["bind", "rprivate", "rw" if writable else "ro", "nosuid", "nodev"],
            source=source,
        )
        for source, target, writable in [*files, (init, INIT, False)]
    ]  # fmt: skip


def _mount(kind: str, target: str, options: list[str], *, source: str = "") -> dict[str, Any]:
    return {"type": kind, "source": source or kind, "destination": target, "options": options}


def _resources(bounds: Bounds, *, everything: bool) -> dict[str, Any]:
    resources: dict[str, Any] = {"devices": [_rule("", _ANY, _ANY, "rwm", allow=everything)]}
    if not everything:
        resources["devices"] += [_rule(*device, allow=True) for device in _DEVICES]
    if bounds.memory:
        resources["memory"] = {"limit": bounds.memory}
    if bounds.pids:
        resources["pids"] = {"limit": bounds.pids}
    return resources


def _rule(kind: str, major: int, minor: int, access: str, *, allow: bool) -> dict[str, Any]:
    rule: dict[str, Any] = {"allow": allow, "access": access}
    if kind:
        rule["type"] = kind
    if major != _ANY:
        rule["major"] = major
    if minor != _ANY:
        rule["minor"] = minor
    return rule
