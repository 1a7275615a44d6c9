"""What keeps a VMM in its place: the list of defences, judged from what the kernel says of it."""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

USER: Final = "own user"
CAPABILITIES: Final = "no capabilities"
PRIVILEGES: Final = "no new privileges"
SYSTEM_CALLS: Final = "system call filter"
NAMESPACES: Final = "own namespaces"
FILES: Final = "own files only"
LIMITS: Final = "resource limits"
DUMPS: Final = "no core dumps"
MEMORY: Final = "memory bound"
SWAP: Final = "swap bound"
CPU: Final = "cpu bound"
PIDS: Final = "threads bound"
IO: Final = "disk i/o bound"

SPACES: Final = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
CONTROLLER: Final[Mapping[str, str]] = {  # which controller of control groups a bound needs
    MEMORY: "memory", SWAP: "memory", CPU: "cpu", PIDS: "pids", IO: "io",
}  # fmt: skip
NO_SECOND_USER: Final = "there is no second user here for it (no subordinate ids)"
NOT_ASKED: Final = "none is configured (vmm.io_mib_s, vmm.io_ops_s)"

_FILTER: Final = 2  # SECCOMP_MODE_FILTER
_BOUNDED: Final = (
    "open files",
    "file size",
    "locked memory",
    "msgqueue size",
)  # of proc/PID/limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Defence:
    """One defence: in force with this detail, or not in force for this reason."""

    name: str
    in_force: bool
    detail: str = ""
    asked: bool = True  # False: nobody has asked for it

    @property
    def lacks(self) -> bool:
        """Whether it should be there and is not."""
        return self.asked and not self.in_force

    def as_json(self) -> dict[str, str | bool]:
        """The same as JSON has it."""
        return {
            "name": self.name, "in_force": self.in_force, "asked": self.asked,
            "detail": self.detail,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the kernel says of a running VMM."""

    users: AbstractSet[int]  # real, effective, saved and of files, of users and groups
    groups: AbstractSet[int]  # supplementary ones
    ours: int  # the user that the server is
    capabilities: int  # all five sets together
    no_new_privileges: bool
    seccomp: int
    namespaces: AbstractSet[str]  # that are not the server's
    root: str  # the file system it has as its root, as mountinfo describes it
    limits: Mapping[str, int | None]  # hard limits; None is no limit
    bounds: Mapping[str, str] = field(default_factory=dict)  # by defence; "" is no bound
    missing: Mapping[str, str] = field(default_factory=dict)  # controller -> why it cannot be had
    throttled: bool = False  # whether a bound on disk I/O is configured


def defences(seen: Seen) -> list[Defence]:
    """Return every defence, in force or not."""
    return [*_of_process(seen), *_of_group(seen)]


def cannot(missing: Mapping[str, str], *, second_user: bool, throttled: bool) -> list[Defence]:
    """Return the defences that are known to be out of reach before anything runs."""
    out = [] if second_user else [Defence(name=USER, in_force=False, detail=NO_SECOND_USER)]
    for name, controller in CONTROLLER.items():
        if controller in missing and (name != IO or throttled):
            out.append(Defence(name=name, in_force=False, detail=missing[controller]))
    return out


def told(lacking: Iterable[Defence]) -> str:
    """Return one line about defences that are not in force."""
    return "; ".join(f"{one.name} ({one.detail})" for one in lacking)


def _of_process(seen: Seen) -> Iterator[Defence]:
    yield _user(seen)
    held = f"it has {seen.capabilities:#x}" if seen.capabilities else ""
    yield Defence(name=CAPABILITIES, in_force=not held, detail=held)
    yield _plain(PRIVILEGES, "its no_new_privs bit is not set", holds=seen.no_new_privileges)
    yield _plain(SYSTEM_CALLS, "it has no seccomp filter", holds=seen.seccomp == _FILTER)
    shared = [name for name in SPACES if name not in seen.namespaces]
    detail = f"shared with the host: {', '.join(shared)}" if shared else ", ".join(SPACES)
    yield Defence(name=NAMESPACES, in_force=not shared, detail=detail)
    jailed = seen.root.startswith("jail ro")
    yield _plain(FILES, f"its root is {seen.root or 'unknown'}", holds=jailed)
    open_ended = [name for name in _BOUNDED if seen.limits.get(name) is None]
    yield _plain(LIMITS, f"without limit: {', '.join(open_ended)}", holds=not open_ended)
    dumps = seen.limits.get("core file size") != 0
    yield _plain(DUMPS, "its core file size is not 0", holds=not dumps)


def _user(seen: Seen) -> Defence:
    if seen.ours in seen.users:
        return Defence(name=USER, in_force=False, detail=NO_SECOND_USER)
    if len(seen.users) != 1 or seen.groups:
        detail = f"it has users {sorted(seen.users)} and groups {sorted(seen.groups)}"
        return Defence(name=USER, in_force=False, detail=detail)
    (uid,) = seen.users
    return Defence(name=USER, in_force=True, detail=f"uid {uid}")


def _of_group(seen: Seen) -> Iterator[Defence]:
    for name, controller in CONTROLLER.items():
        asked = name != IO or seen.throttled
        bound = seen.bounds.get(name, "")
        why = seen.missing.get(controller, "its control group has no such bound")
        detail = bound or (why if asked else NOT_ASKED)
        yield Defence(name=name, in_force=bool(bound), detail=detail, asked=asked)


def _plain(name: str, why_not: str, *, holds: bool) -> Defence:
    return Defence(name=name, in_force=holds, detail="" if holds else why_not)
