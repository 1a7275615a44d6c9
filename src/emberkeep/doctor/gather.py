"""Look at the host: every fact by trying, where trying is cheap and leaves nothing behind."""

import ctypes
import fcntl
import os
import platform
import re
import resource
import shutil
import struct
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from emberkeep.base import cgroups, proc
from emberkeep.doctor.checks import PACKAGES
from emberkeep.doctor.facts import Disk, Groups, Host, Limits, Network, Qemu, Rights

_SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"
_VERSION: Final = re.compile(r"version (\d+)\.(\d+)\.(\d+)")
_WORD: Final = re.compile(r"^(\S+)", re.MULTILINE)
_DEVICE: Final = re.compile(r'^name "([^"]+)"', re.MULTILINE)
_CAP_SYS_PTRACE: Final = 19
_FICLONE: Final = 0x40049409
_PAGEMAP_SCAN: Final = 0xC0606610
_PAGEMAP_SCAN_ARGUMENT: Final = struct.Struct("=12Q")
_SANDBOX: Final = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
_MANY_USERS: Final = 60_000
_TRY_S: Final = 15


def host() -> Host:
    """Distribution, kernel, cores, memory, Python."""
    release = platform.freedesktop_os_release()
    memory = dict(re.findall(r"(\w+):\s+(\d+) kB", _text("/proc/meminfo")))
    return Host(
        distribution=release.get("ID", ""),
        version=release.get("VERSION_ID", ""),
        pretty=release.get("PRETTY_NAME", "unknown"),
        kernel=platform.release(),
        architecture=platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_mib=int(memory.get("MemTotal", 0)) // 1024,
        available_mib=int(memory.get("MemAvailable", 0)) // 1024,
        python=sys.version_info[:3],
    )


def qemu(binary: str) -> Qemu:
    """Version and features of the configured QEMU."""
    path = shutil.which(binary)
    if path is None:
        return Qemu(path=binary, fault="it is not installed")
    said = _tried([path, "--version"])
    version = _VERSION.search(said.stdout)
    if version is None:
        last = (said.stderr or said.stdout).strip().splitlines()[-1:] or ["it said nothing"]
        return Qemu(path=path, fault=f"it does not tell its version: {last[0][:200]}")
    sandboxed = _tried([path, "-sandbox", _SANDBOX, "-machine", "help"])
    machines = sandboxed if sandboxed.ok else _tried([path, "-machine", "help"])
    devices = _tried([path, "-device", "help"])
    return Qemu(
        path=path,
        version=(int(version[1]), int(version[2]), int(version[3])),
        sandbox=sandboxed.ok,
        machines=frozenset(_WORD.findall(machines.stdout)),
        devices=frozenset(_DEVICE.findall(devices.stdout + devices.stderr)),
    )


def network() -> Network:
    """What can be made in a network namespace of one's own."""
    inside = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--"]
    return Network(
        tap=_obstacle([*inside, "ip", "tuntap", "add", "dev", "emberkeep0", "mode", "tap"]),
        nftables=_obstacle([*inside, "nft", "add", "table", "inet", "emberkeep"]),
        pasta=_obstacle(["pasta", "--version"]),
    )


def rights() -> Rights:
    """What this user may do to namespaces and to other processes."""
    capabilities = re.search(r"^CapEff:\s*([0-9a-f]+)", _text("/proc/self/status"), re.MULTILINE)
    effective = int(capabilities[1], 16) if capabilities else 0
    root = os.geteuid() == 0
    mapped = ["unshare", "--map-auto", "--map-root-user", "--", "true"]
    return Rights(
        uid=os.geteuid(),
        user_namespace="" if root else _obstacle(["unshare", "--map-root-user", "--", "true"]),
        subordinate_ids="" if root else _obstacle(mapped),
        apparmor_restricts=_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1,
        cap_sys_ptrace=bool(effective >> _CAP_SYS_PTRACE & 1),
        yama_scope=_number("/proc/sys/kernel/yama/ptrace_scope"),
        pagemap_scan=_pagemap_scan(),
    )


def groups(*, subordinate_ids: bool) -> Groups:
    """Which control groups can be made here, and whether there are users to give away."""
    found = cgroups.found()
    had = {
        name: f"version {one.version} at {one.top}"
        for one in found.hierarchies
        for name in one.controllers
    }
    many = sum(int(line.split()[2]) for line in _text("/proc/self/uid_map").splitlines())
    second = many >= _MANY_USERS if os.geteuid() == 0 else subordinate_ids
    return Groups(had=had, missing=found.missing, second_user=second)


def disk(data: Path) -> Disk:
    """The file system that the data is on, or would be."""
    place = data.absolute()
    while not place.is_dir():
        place = place.parent
    space = os.statvfs(place)
    fault, reflink = "", False
    try:
        reflink = _reflink(place)
    except OSError as error:
        fault = error.strerror or str(error)
    return Disk(
        path=data,
        filesystem=_filesystem(place),
        free_mib=space.f_bavail * space.f_frsize >> 20,
        reflink=reflink,
        fault=fault,
    )


def limits() -> Limits:
    """The bounds on this process."""
    groups = [line.split(":", 2)[2] for line in _text("/proc/self/cgroup").splitlines()]
    most = [_bound(resource.RLIMIT_NPROC)] if os.geteuid() else []
    for group in groups[-1:]:
        text = _text(f"/sys/fs/cgroup{group}/pids.max").strip()
        most.append(int(text) if text.isdecimal() else None)
    locked = _bound(resource.RLIMIT_MEMLOCK)
    return Limits(
        # the server raises the soft limit to the hard one
        open_files=_bound(resource.RLIMIT_NOFILE),
        locked_kib=None if locked is None else locked // 1024,
        processes=min((it for it in most if it is not None), default=None),
    )


def tools() -> dict[str, str]:
    """Where the tools are; "" where one is missing."""
    path = f"{os.defpath}:{_SBIN}"
    return {
        tool: shutil.which(tool) or shutil.which(tool, path=path) or "" for tool in sorted(PACKAGES)
    }


def _tried(argv: Sequence[str]) -> proc.Result:
    """Run `argv`; one that cannot be started, or does not end, is one that failed."""
    environment = {"PATH": f"{os.defpath}:{_SBIN}", "LC_ALL": "C.UTF-8"}
    try:
        return proc.run(argv, timeout=_TRY_S, env=environment)
    except FileNotFoundError:
        text = f"{argv[0]} is not installed"
    except (OSError, TimeoutError) as error:
        text = str(error)
    return proc.Result(argv=tuple(argv), code=-1, stdout="", stderr=text)


def _obstacle(argv: Sequence[str]) -> str:
    """Return why `argv` fails, in its own last words; "" if it does not."""
    result = _tried(argv)
    if result.ok:
        return ""
    words = (result.stderr or result.stdout).strip().splitlines()
    return words[-1][:200] if words else f"{argv[0]} ended with status {result.code}"


def _reflink(folder: Path) -> bool:
    """Whether files are cloned here; OSError if none can be written."""
    with tempfile.TemporaryFile(dir=folder) as source, tempfile.TemporaryFile(dir=folder) as clone:
        source.write(bytes(4096))
        source.flush()
        try:
            fcntl.ioctl(clone, _FICLONE, source.fileno())
        except OSError:
            return False
        return True


def _filesystem(folder: Path) -> str:
    """Return the type of the file system that `folder` is on."""
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in _text("/proc/self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == wanted:
            return rest.split()[0]
    return "unknown"


def _pagemap_scan() -> bool:
    argument = _PAGEMAP_SCAN_ARGUMENT.pack(_PAGEMAP_SCAN_ARGUMENT.size, *(0 for _ in range(11)))
    buffer = ctypes.create_string_buffer(argument, len(argument))
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        try:
            fcntl.ioctl(pagemap, _PAGEMAP_SCAN, buffer)
        except OSError:
            return False
        return True


def _bound(kind: int) -> int | None:
    _, hard = resource.getrlimit(kind)
    return None if hard == resource.RLIM_INFINITY else hard


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else 0
