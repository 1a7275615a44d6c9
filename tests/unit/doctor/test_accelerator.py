"""The probe of KVM, with scripts in the place of QEMU."""

from dataclasses import replace
from pathlib import Path

import pytest

from emberkeep.doctor.accelerator import Probe, argv, choose, probed
from emberkeep.domain.errors import Unavailable


@pytest.fixture
def probe(tmp_path) -> Probe:
    for name in ("kernel", "initramfs", "device"):
        (tmp_path / name).write_text(name)
    return Probe(
        qemu=str(tmp_path / "qemu"),
        qemu_version="10.0.2",
        kernel=tmp_path / "kernel",
        initramfs=tmp_path / "initramfs",
        deadline_s=0.3,
        device=tmp_path / "device",
    )


def script(probe: Probe, text: str) -> None:
    """Let `text` be what QEMU does; each run leaves a line in `runs`."""
    path = Path(probe.qemu)
    path.write_text(f"#!/bin/sh\necho run >> {path.with_name('runs')}\n{text}\n")
    path.chmod(0o755)


def runs(probe: Probe) -> int:
    file = Path(probe.qemu).with_name("runs")
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_a_guest_that_lives_is_the_proof(probe):
    script(probe, "echo SeaBIOS; echo EMBERKEEP-ALIVE; exec sleep 30")

    verdict = probed(probe)

    assert verdict.accelerator == "kvm"
    assert "sign of life" in verdict.evidence


def test_a_guest_that_keeps_silent_is_none(probe):
    script(probe, "echo SeaBIOS; exec sleep 30")

    verdict = probed(probe)

    assert verdict.accelerator == "tcg"
    assert verdict.evidence.endswith("opens, but a guest gave no sign of life within 0.3 s")
    assert verdict.probe_s < 3


def test_a_vm_that_ends_is_quoted(probe):
    script(probe, "echo 'failed to set MSR 0x10a' >&2; exit 1")

    verdict = probed(replace(probe, deadline_s=5))

    assert verdict.accelerator == "tcg"
    assert "failed to set MSR 0x10a" in verdict.evidence


def test_without_the_device_nothing_is_started(probe):
    script(probe, "echo EMBERKEEP-ALIVE")
    probe.device.unlink()

    verdict = probed(probe)

    assert verdict.accelerator == "tcg"
    assert verdict.evidence == f"there is no {probe.device}"
    assert runs(probe) == 0


async def test_the_verdict_is_remembered_until_something_changes(probe, tmp_path):
    script(probe, "echo EMBERKEEP-ALIVE; exec sleep 30")
    memory = tmp_path / "run" / "accelerator.json"

    first = await choose("auto", probe, memory=memory)
    second = await choose("auto", probe, memory=memory)
    once = runs(probe)
    await choose("auto", replace(probe, qemu_version="10.0.3"), memory=memory)
    probe.kernel.write_text("another")
    await choose("auto", probe, memory=memory)

    assert first == second
    assert once == 1
    assert runs(probe) == 3


async def test_a_broken_memory_is_written_anew(probe, tmp_path):
    script(probe, "echo EMBERKEEP-ALIVE")
    memory = tmp_path / "accelerator.json"
    memory.write_text("{")

    assert (await choose("auto", probe, memory=memory)).accelerator == "kvm"
    assert memory.read_text() != "{"


async def test_tcg_needs_no_probe(probe, tmp_path):
    script(probe, "echo EMBERKEEP-ALIVE")

    verdict = await choose("tcg", probe, memory=tmp_path / "accelerator.json")

    assert verdict.accelerator == "tcg"
    assert runs(probe) == 0


async def test_kvm_that_does_not_work_is_refused(probe, tmp_path):
    script(probe, "exec sleep 30")

    with pytest.raises(Unavailable, match="no sign of life") as caught:
        await choose("kvm", probe, memory=tmp_path / "accelerator.json")

    assert "vmm.accelerator" in caught.value.hint


def test_the_machine_is_the_one_that_will_be_used(probe):
    board = argv(probe).index("-machine") + 1

    assert argv(probe)[board].startswith("microvm,acpi=on,rtc=on")
    assert argv(replace(probe, machine="q35"))[board].startswith("pc-q35-8.2")
