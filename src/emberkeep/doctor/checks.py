"""Judge the facts of a host: pure functions from facts to findings."""

import shlex
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Final

from emberkeep.doctor.facts import Facts, Network
from emberkeep.doctor.findings import Finding, fail, ok, warn
from emberkeep.domain.confinement import SYSTEM_CALLS, Defence, cannot

SETUP_HOST: Final = "make setup"
LEAST_QEMU: Final = (8, 2, 0)
LEAST_PYTHON: Final = (3, 11, 0)
MACHINES: Final = ("pc-q35-8.2", "microvm")
DEVICES: Final = ("virtio-blk-pci", "virtio-net-pci", "virtio-serial-pci", "virtserialport")
PACKAGES: Final[Mapping[str, str]] = {  # tool -> Debian's and Ubuntu's package
    "mmdebstrap": "mmdebstrap",
    "mkfs.erofs": "erofs-utils",
    "mke2fs": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}

_UPLINK_REMEDY: Final = "run as root with nftables installed, or install pasta (package passt)"
_FORWARDING_REMEDY: Final = {
    4: "sysctl -w net.ipv4.ip_forward=1, or set network.forwarding to true",
    6: (
        "sysctl -w net.ipv6.conf.all.forwarding=1 — and net.ipv6.conf.DEVICE.accept_ra=2 first"
        " where the host has its own route from router advertisements"
    ),
}
_SUPPORTED: Final = {("debian", "12"), ("debian", "13"), ("ubuntu", "24.04")}
_LEAST_FREE_MIB: Final = 2048
_GOOD_FREE_MIB: Final = 10240
_LEAST_MEMORY_MIB: Final = 1024
_LEAST_FILES: Final = 1024
_GOOD_FILES: Final = 8192
_LEAST_PROCESSES: Final = 512
_ATTACH_OWN: Final = 1  # Yama: up to here a process may be attached to that runs as the same user


def findings(facts: Facts) -> list[Finding]:
    """Return what there is to say about the host, in the order of a reader's interest."""
    return list(chain.from_iterable(check(facts) for check in _CHECKS))


def qemu_remedy(distribution: str, version: str) -> str:
    """Return the exact way to a QEMU that is new enough."""
    if (distribution, version) == ("debian", "12"):
        return (
            "Debian 12 has it in backports: "
            "echo 'deb http://deb.debian.org/debian bookworm-backports main'"
            " > /etc/apt/sources.list.d/backports.list && apt-get update && "
            "apt-get install -t bookworm-backports qemu-system-x86 qemu-utils"
            f" (or all at once: {SETUP_HOST})"
        )
    if (distribution, version) in _SUPPORTED:
        return f"apt-get install qemu-system-x86 qemu-utils (or all at once: {SETUP_HOST})"
    return "install QEMU 8.2 or later, or name one by vmm.qemu"


def _host(facts: Facts) -> Iterator[Finding]:
    host = facts.host
    found = f"{host.pretty}, Linux {host.kernel}, {host.architecture}"
    if host.architecture != "x86_64":
        yield fail("host", found, "Emberkeep runs on x86-64 only, so far")
    elif (host.distribution, host.version) in _SUPPORTED:
        yield ok("host", found)
    else:
        yield warn("host", found, "tested are Debian 12 and 13 and Ubuntu 24.04")
    size = f"{host.cores} cores, {host.available_mib} of {host.memory_mib} MiB memory available"
    if host.available_mib < _LEAST_MEMORY_MIB:
        yield warn("memory", size, "a microVM of 512 MiB needs that and some more: end something")
    else:
        yield ok("memory", size)


def _python(facts: Facts) -> Iterator[Finding]:
    found = ".".join(map(str, facts.host.python))
    if facts.host.python < LEAST_PYTHON:
        yield fail("python", found, "install Python 3.11 or later")
    else:
        yield ok("python", found)


def _qemu(facts: Facts) -> Iterator[Finding]:
    qemu, host = facts.qemu, facts.host
    remedy = qemu_remedy(host.distribution, host.version)
    if qemu.version is None:
        yield fail("qemu", f"{qemu.path}: {qemu.fault}", remedy)
        return
    found = f"{qemu.path} {'.'.join(map(str, qemu.version))}"
    if qemu.version < LEAST_QEMU:
        yield fail("qemu", f"{found}: too old, 8.2 is the least", remedy)
        return
    yield ok("qemu", found)
    yield from _qemu_features(facts)


def _qemu_features(facts: Facts) -> Iterator[Finding]:
    qemu = facts.qemu
    absent = [name for name in MACHINES if name not in qemu.machines]
    absent += [name for name in DEVICES if name not in qemu.devices]
    if not qemu.sandbox:
        absent.insert(0, "the seccomp sandbox")
    if absent:
        found = f"this build lacks {', '.join(absent)}"
        yield fail("qemu features", found, "use a build of QEMU that has it: vmm.qemu")
    else:
        yield ok("qemu features", f"seccomp sandbox, {', '.join((*MACHINES, *DEVICES))}")


def _accelerator(facts: Facts) -> Iterator[Finding]:
    it = facts.accelerator
    if it.verdict == "kvm":
        yield ok("accelerator", f"kvm: {it.evidence}")
    elif it.verdict == "tcg":
        remedy = "it works, about ten times slower; a host with a working /dev/kvm is better"
        yield warn("accelerator", f"tcg: {it.evidence}", remedy)
    elif it.wish == "kvm":
        yield fail("accelerator", it.evidence, "set vmm.accelerator to auto, or give it KVM")
    else:
        yield warn("accelerator", f"not known yet: {it.evidence}", "run: emberkeep setup")


def _network(facts: Facts) -> Iterator[Finding]:
    it = facts.network
    if it.tap:
        remedy = "load the tun module (modprobe tun), and see that this user may use /dev/net/tun"
        yield fail("tap", f"no tap in a network namespace: {it.tap}", remedy)
    else:
        yield ok("tap", "/dev/net/tun works in a network namespace of its own")
    if it.nftables:
        yield warn("nftables", it.nftables, f"install nftables: {SETUP_HOST}")
    else:
        yield ok("nftables", "a table can be made in a network namespace")
    if it.pasta and facts.rights.uid:
        yield warn("pasta", it.pasta, f"install passt: {SETUP_HOST}")
    else:
        yield ok("pasta", it.pasta or "installed")
    yield from _outside(it)


def _outside(it: Network) -> Iterator[Finding]:
    """Judge whether packets of microVMs would find a way."""
    if it.uplink == "none":
        yield warn("uplink", f"microVMs have no network: {it.no_uplink}", _UPLINK_REMEDY)
    elif it.uplink:
        yield ok("uplink", f"microVMs reach the network through {it.uplink}")
    for version, obstacle in it.forwarding.items():
        if obstacle:
            yield warn(f"forwarding ipv{version}", obstacle, _FORWARDING_REMEDY[version])
        else:
            yield ok(f"forwarding ipv{version}", "on, or can be for the devices concerned")
    for chain_ in it.closed:
        yield warn("firewall", f"{chain_} drops what microVMs send", it.let_pass)


def _rights(facts: Facts) -> Iterator[Finding]:
    it = facts.rights
    if it.uid == 0:
        yield ok("user", "root")
        return
    yield ok("user", f"uid {it.uid}, without root")
    if it.user_namespace and it.apparmor_restricts:
        remedy = "allow them: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0; or use root"
        yield fail("user namespaces", "AppArmor forbids them to this user", remedy)
    elif it.user_namespace:
        yield fail("user namespaces", it.user_namespace, "allow them to users, or run as root")
    else:
        yield ok("user namespaces", "this user can make one")
    if it.subordinate_ids:
        yield fail("subordinate ids", it.subordinate_ids, _subordinate_remedy(it.uid))
    else:
        yield ok("subordinate ids", "newuidmap works with the ranges of /etc/subuid")


def _subordinate_remedy(uid: int) -> str:
    words = ["usermod", "--add-subuids", "100000-165535", "--add-subgids", "100000-165535"]
    return f"install uidmap, then: {shlex.join(words)} USER (uid {uid}); or run as root"


def _confinement(facts: Facts) -> Iterator[Finding]:
    """Say which defences a VMM would lack here."""
    it = facts.groups
    places = ", ".join(f"{name} ({place})" for name, place in sorted(it.had.items()))
    if it.missing:
        why = "; ".join(f"no bound on {name}: {why}" for name, why in sorted(it.missing.items()))
        yield warn("control groups", why, _groups_remedy(facts))
    else:
        yield ok("control groups", places)
    out = cannot(it.missing, second_user=it.second_user, throttled=False)
    if not facts.qemu.sandbox and facts.qemu.version is not None:
        why = "this QEMU has no seccomp"
        out = [*out, Defence(name=SYSTEM_CALLS, in_force=False, detail=why)]
    if out:
        names = ", ".join(one.name for one in out)
        yield warn("confinement", f"cannot be in force here: {names}", "docs/confinement.md")
    else:
        yield ok("confinement", "every defence of a VMM can be in force here")


def _groups_remedy(facts: Facts) -> str:
    if facts.rights.uid:
        return (
            "start the server where your systemd hands groups on to you:"
            " systemd-run --user --scope -p Delegate=yes emberkeep up; or run as root"
        )
    return "mount the control groups writable here (in a container: its own, with all controllers)"


def _memory_access(facts: Facts) -> Iterator[Finding]:
    it = facts.rights
    if it.cap_sys_ptrace or it.yama_scope <= _ATTACH_OWN:
        who = "CAP_SYS_PTRACE" if it.cap_sys_ptrace else f"Yama's scope is {it.yama_scope}"
        yield ok("guest memory", f"the memory of a VMM can be read and written ({who})")
    else:
        found = f"without CAP_SYS_PTRACE, and Yama's scope is {it.yama_scope}"
        yield fail("guest memory", found, "run as root, or: sysctl -w kernel.yama.ptrace_scope=1")
    if it.pagemap_scan:
        yield ok("dirty pages", "PAGEMAP_SCAN")
    else:
        yield ok("dirty pages", "/proc/PID/pagemap (PAGEMAP_SCAN is faster, from Linux 6.7 on)")


def _disk(facts: Facts) -> Iterator[Finding]:
    it = facts.disk
    found = f"{it.path}: {it.filesystem}, {it.free_mib} MiB free"
    if it.fault:
        yield fail("disk", f"{it.path}: {it.fault}", "put the data elsewhere: --data")
    elif it.free_mib < _LEAST_FREE_MIB:
        yield fail("disk", found, "free some space, or put the data elsewhere: --data")
    elif it.free_mib < _GOOD_FREE_MIB:
        yield warn("disk", found, "a snapshot takes a few hundred MiB: free some space")
    else:
        yield ok("disk", found)
    if not it.fault:
        yield ok("reflink", "files are cloned" if it.reflink else "files are copied, sparsely")


def _limits(facts: Facts) -> Iterator[Finding]:
    it = facts.limits
    files = "no limit" if it.open_files is None else str(it.open_files)
    remedy = "raise it: ulimit -n, or LimitNOFILE= of the service"
    if it.open_files is not None and it.open_files < _LEAST_FILES:
        yield fail("open files", files, remedy)
    elif it.open_files is not None and it.open_files < _GOOD_FILES:
        yield warn("open files", files, remedy)
    else:
        yield ok("open files", files)
    locked = "no limit" if it.locked_kib is None else f"{it.locked_kib} KiB"
    yield ok("locked memory", locked)
    processes = "no limit" if it.processes is None else str(it.processes)
    if it.processes is not None and it.processes < _LEAST_PROCESSES:
        yield warn("processes", processes, "raise it: ulimit -u, or TasksMax= of the service")
    else:
        yield ok("processes", processes)


def _tools(facts: Facts) -> Iterator[Finding]:
    missing = [tool for tool in PACKAGES if not facts.tools.get(tool)]
    if missing:
        packages = " ".join(sorted({PACKAGES[tool] for tool in missing}))
        remedy = f"apt-get install {packages} (or all at once: {SETUP_HOST})"
        yield fail("tools", f"missing: {', '.join(missing)}", remedy)
    else:
        yield ok("tools", ", ".join(PACKAGES))


def _artifacts(facts: Facts) -> Iterator[Finding]:
    for name, fault in facts.artifacts.items():
        if fault:
            yield fail(f"artifact {name}", fault, "run: emberkeep setup")
        else:
            yield ok(f"artifact {name}", "present and intact")


_CHECKS: Final[tuple[Callable[[Facts], Iterator[Finding]], ...]] = (
    _host, _python, _qemu, _accelerator, _network, _rights, _confinement, _memory_access, _disk,
    _limits, _tools, _artifacts,
)  # fmt: skip
