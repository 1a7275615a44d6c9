"""What is said of which facts."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from emberkeep.doctor.checks import DEVICES, MACHINES, PACKAGES, findings
from emberkeep.doctor.facts import (
    Accelerator,
    Disk,
    Facts,
    Host,
    Limits,
    Network,
    Qemu,
    Rights,
)
from emberkeep.doctor.findings import Finding, Level, healthy

GOOD = Facts(
    host=Host(
        distribution="debian",
        version="12",
        pretty="Debian GNU/Linux 12 (bookworm)",
        kernel="6.18",
        architecture="x86_64",
        cores=2,
        memory_mib=8192,
        available_mib=6000,
        python=(3, 11, 2),
    ),
    qemu=Qemu(
        path="/usr/bin/qemu-system-x86_64",
        version=(10, 0, 2),
        sandbox=True,
        machines=frozenset(MACHINES),
        devices=frozenset(DEVICES),
    ),
    accelerator=Accelerator(wish="auto", verdict="kvm", evidence="it lives"),
    network=Network(tap="", nftables="", pasta=""),
    rights=Rights(
        uid=0,
        user_namespace="",
        subordinate_ids="",
        apparmor_restricts=False,
        cap_sys_ptrace=True,
        yama_scope=1,
        pagemap_scan=True,
    ),
    disk=Disk(path=Path("/data"), filesystem="btrfs", free_mib=50_000, reflink=True),
    limits=Limits(open_files=1 << 20, locked_kib=None, processes=None),
    tools={tool: f"/usr/bin/{tool}" for tool in PACKAGES},
    artifacts={"kernel": ""},
)
USER = replace(GOOD.rights, uid=1000, cap_sys_ptrace=False)


def finding(facts: Facts, name: str) -> Finding:
    (found,) = [it for it in findings(facts) if it.name == name]
    return found


def test_a_good_host_has_nothing_to_do():
    found = findings(GOOD)

    assert {it.level for it in found} == {Level.OK}
    assert not any(it.remedy for it in found)
    assert healthy(found)


@pytest.mark.parametrize(
    ("part", "changes", "name", "level", "remedy"),
    [
        ("host", {"architecture": "aarch64"}, "host", "fail", "x86-64"),
        ("host", {"version": "11"}, "host", "warn", "Debian 12"),
        ("host", {"available_mib": 100}, "memory", "warn", "512 MiB"),
        ("host", {"python": (3, 10, 9)}, "python", "fail", "3.11"),
        ("qemu", {"version": None, "fault": "it is not installed"}, "qemu", "fail", "backports"),
        ("qemu", {"version": (7, 2, 22)}, "qemu", "fail", "bookworm-backports"),
        ("qemu", {"sandbox": False}, "qemu features", "fail", "vmm.qemu"),
        ("qemu", {"machines": frozenset()}, "qemu features", "fail", "vmm.qemu"),
        ("accelerator", {"verdict": "tcg"}, "accelerator", "warn", "slower"),
        ("accelerator", {"verdict": ""}, "accelerator", "warn", "emberkeep setup"),
        ("accelerator", {"verdict": "", "wish": "kvm"}, "accelerator", "fail", "auto"),
        ("network", {"tap": "no"}, "tap", "fail", "/dev/net/tun"),
        ("network", {"nftables": "no"}, "nftables", "warn", "nftables"),
        ("rights", {"uid": 7, "user_namespace": "no"}, "user namespaces", "fail", "root"),
        ("rights", {"uid": 7, "subordinate_ids": "no"}, "subordinate ids", "fail", "usermod"),
        ("rights", {"cap_sys_ptrace": False, "yama_scope": 2}, "guest memory", "fail", "ptrace"),
        ("disk", {"free_mib": 100}, "disk", "fail", "--data"),
        ("disk", {"free_mib": 5000}, "disk", "warn", "snapshot"),
        ("disk", {"fault": "Read-only file system"}, "disk", "fail", "--data"),
        ("limits", {"open_files": 256}, "open files", "fail", "ulimit"),
        ("limits", {"open_files": 1024}, "open files", "warn", "ulimit"),
        ("limits", {"processes": 100}, "processes", "warn", "TasksMax"),
    ],
)
def test_each_shortcoming_has_a_remedy(part, changes, name, level, remedy):
    facts = replace(GOOD, **{part: replace(getattr(GOOD, part), **changes)})

    found = finding(facts, name)

    assert found.level == level
    assert remedy in found.remedy
    assert healthy(findings(facts)) == (level != "fail")


@pytest.mark.parametrize(
    ("distribution", "version", "remedy"),
    [
        ("debian", "12", "-t bookworm-backports"),
        ("debian", "13", "apt-get install qemu-system-x86"),
        ("ubuntu", "24.04", "apt-get install qemu-system-x86"),
        ("arch", "", "QEMU 8.2 or later"),
    ],
)
def test_the_way_to_qemu_is_the_distributions(distribution, version, remedy):
    host = replace(GOOD.host, distribution=distribution, version=version)
    facts = replace(GOOD, host=host, qemu=Qemu(path="q", fault="it is not installed"))

    assert remedy in finding(facts, "qemu").remedy


def test_apparmors_restriction_is_told_from_others():
    rights = replace(USER, user_namespace="Permission denied", apparmor_restricts=True)

    found = finding(replace(GOOD, rights=rights), "user namespaces")

    assert "AppArmor" in found.found
    assert "apparmor_restrict_unprivileged_userns=0" in found.remedy


def test_pasta_is_only_missed_without_root():
    network = replace(GOOD.network, pasta="pasta is not installed")

    as_root = finding(replace(GOOD, network=network), "pasta")
    as_user = finding(replace(GOOD, network=network, rights=USER), "pasta")

    assert as_root.level is Level.OK
    assert as_user.level is Level.WARN


def test_missing_tools_are_named_with_their_packages():
    facts = replace(GOOD, tools={**GOOD.tools, "mkfs.erofs": "", "mmdebstrap": ""})

    found = finding(facts, "tools")

    assert found.level is Level.FAIL
    assert "erofs-utils mmdebstrap" in found.remedy


def test_a_damaged_artifact_is_repaired_by_setup():
    found = finding(replace(GOOD, artifacts={"agent": "it is damaged"}), "artifact agent")

    assert found.level is Level.FAIL
    assert "emberkeep setup" in found.remedy


def test_a_finding_is_json():
    found = findings(GOOD)[0]

    assert msgspec.json.decode(msgspec.json.encode(found.as_json())) == {
        "name": "host",
        "level": "ok",
        "found": "Debian GNU/Linux 12 (bookworm), Linux 6.18, x86_64",
        "remedy": "",
    }


@pytest.mark.parametrize(
    ("network", "name", "level", "words"),
    [
        ({"uplink": "veth"}, "uplink", Level.OK, "through veth"),
        ({"uplink": "none", "no_uplink": "no nft"}, "uplink", Level.WARN, "no network: no nft"),
        ({"forwarding": {4: ""}}, "forwarding ipv4", Level.OK, "on"),
        ({"forwarding": {6: "it cannot"}}, "forwarding ipv6", Level.WARN, "it cannot"),
        (
            {"closed": ["ip filter FORWARD"], "let_pass": "do this"},
            "firewall",
            Level.WARN,
            "FORWARD",
        ),
    ],
)
def test_what_is_in_the_way_of_microvms(
    network: dict[str, object], name: str, level: Level, words: str
):
    it = finding(replace(GOOD, network=replace(GOOD.network, **network)), name)

    assert it.level is level
    assert words in it.found
    assert bool(it.remedy) == (level is Level.WARN)
    assert healthy(findings(replace(GOOD, network=replace(GOOD.network, **network))))
