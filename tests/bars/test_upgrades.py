"""Bar 4: kept snapshots and other QEMUs: older ones restore, those that cannot are refused.

EMBERKEEP_BARS_QEMUS names more QEMUs, with colons between (a binary, or a wrapper with all it needs
beside it): with each one that is older than the installed one an upgrade is played, with each one
that is newer too, from the installed one.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from emberkeep.base import proc
from emberkeep.domain.errors import Mismatch, NotFound
from emberkeep.domain.microvms import State
from emberkeep.serve.host import qemu_binary
from emberkeep.vmm.settings import VmmSettings
from emberkeep.vmm.shape import Q35, version_of
from emberkeep.vmm.snapshot import META, _seal_of
from tests.bars.knobs import Figures, word
from tests.bars.nodes import launched, node, output
from tests.bars.servers import furnished, lent

pytestmark = [pytest.mark.bars, pytest.mark.timeout(1800)]

OLDER: Final = ("pc-q35-8.1", "pc-q35-7.2")  # older than any that Emberkeep itself takes
_COUNT: Final = "n=0; while :; do n=$((n+1)); echo $n > /run/m; mv /run/m /run/n; sleep 0.1; done"
_QEMUS: Final = sorted(
    (version_of(version), str(binary))
    for binary, version in (
        qemu_binary(VmmSettings(qemu=name))
        for name in ("qemu-system-x86_64", *word("QEMUS").split(":"))
        if name
    )
)  # fmt: skip


@pytest.fixture
def empty(stock: Path, tmp_path: Path) -> Iterator[Path]:
    """Return a data folder with artifacts and no snapshot."""
    with lent(furnished(tmp_path / "data", stock, images=False)) as folder:
        yield folder


@pytest.mark.parametrize("machine", [Q35, *OLDER])
async def test_a_kept_snapshot_of_an_older_machine_type_restores(
    machine: str, empty: Path, figures: Figures
):
    begun = time.monotonic()
    await _kept(empty, machine=machine)
    result = await _restored(empty)
    figures(f"kept {machine}", s=time.monotonic() - begun, **result)


@pytest.mark.skipif(len(_QEMUS) < 2, reason="one QEMU only: name others in EMBERKEEP_BARS_QEMUS")
@pytest.mark.parametrize(("older", "newer"), list(pairwise(_QEMUS)))
async def test_what_an_older_qemu_has_kept_restores_on_a_newer_one(
    older: tuple[tuple[int, int], str], newer: tuple[tuple[int, int], str], empty: Path,
    figures: Figures,
):  # fmt: skip
    await _kept(empty, machine=Q35, qemu=older[1])
    result = await _restored(empty, qemu=newer[1])
    figures(f"upgrade {older[0]} to {newer[0]}", **result)

    async with node(empty, qemu=newer[1]) as one:
        await one.suspend("kept")
        await one.terminate("idle")
    async with node(empty, qemu=older[1]) as one:
        with pytest.raises(Mismatch, match="older"):
            await one.resume("kept")
        assert (await one.show("kept")).state is State.SUSPENDED
        await one.terminate("kept")


def _newer_qemu(record: dict[str, Any]) -> None:
    record["taken_by"] = "99.1.0"


def _other_accelerator(record: dict[str, Any]) -> None:
    record["shape"]["accelerator"] = "kvm"


def _other_devices(record: dict[str, Any]) -> None:
    record["shape"]["devices"] = 999


def _unversioned_machine(record: dict[str, Any]) -> None:
    record["shape"]["machine"] = "microvm"
    record["taken_by"] = "8.2.0"


def _newer_machine(record: dict[str, Any]) -> None:
    record["shape"]["machine"] = "pc-q35-99.0"


def _other_format(record: dict[str, Any]) -> None:
    record["format"] = 2


def _missing_kernel(record: dict[str, Any]) -> None:
    record["shape"]["kernel"] = "0" * 64


WRONG: Final = [
    (_newer_qemu, Mismatch, "older"),
    (_other_accelerator, Mismatch, "kvm"),
    (_other_devices, Mismatch, "device layout 999"),
    (_unversioned_machine, Mismatch, "8.2.0"),
    (_other_format, Mismatch, "format 2"),
    (_newer_machine, Mismatch, "pc-q35-99.0"),
    (_missing_kernel, NotFound, "000000"),
]


async def test_a_snapshot_that_cannot_be_restored_here_is_refused_and_stays(
    empty: Path, figures: Figures
):
    data, told = empty, {}
    await _kept(data, machine=Q35, names=["kept"])
    (full,) = data.glob("images/*/512m-1c-*")
    (delta,) = data.glob("microvms/*/delta-*")
    saved = data / "saved"
    for path in (full, delta):
        (saved / path.name).mkdir(parents=True)
        shutil.copy(path / META, saved / path.name)
    for spoil, kind, words in WRONG:
        _spoil(full, delta, spoil)
        async with node(data) as one:
            with pytest.raises(kind, match=words) as caught:
                await one.resume("kept")
            told[spoil.__name__] = f"{caught.value.message} ({caught.value.hint})"
            assert caught.value.hint
            assert "\n" not in caught.value.message
            assert (await one.show("kept")).state is State.SUSPENDED
        for path in (full, delta):
            shutil.copy(saved / path.name / META, path)
    for name, text in told.items():
        figures(f"refused {name.strip('_')}", said=text)
    result = await _restored(data)
    figures("restored after all refusals", **result)


async def _kept(
    data: Path, *, machine: str, qemu: str = "", names: Sequence[str] = ("kept", "idle")
) -> None:
    """Leave suspended microVMs: "kept", that counts, and others."""
    async with node(data, machine=machine, qemu=qemu) as one:
        for name in names:
            await launched(one, name)
        await output(one, "kept", "sh", "-c", f"({_COUNT}) >/dev/null 2>&1 & sleep 1")
        live = one.ground.running.get((await one.show("kept")).id)
        assert live is not None
        assert live.machine.shape.machine == machine
        for name in names:
            await one.suspend(name)


async def _restored(data: Path, *, qemu: str = "") -> dict[str, object]:
    """Resume all of them; the counter must go on."""
    async with node(data, qemu=qemu) as one:
        for name in [vm.name for vm in await one.list()]:
            await one.resume(name)
            assert (await output(one, name, "python3", "-c", "print(6*7)")) == "42\n"
        first = int(await output(one, "kept", "cat", "/run/n"))
        await output(one, "kept", "sleep", "1")
        later = int(await output(one, "kept", "cat", "/run/n"))
        assert 0 < first < later
        vm = await one.show("kept")
        live = one.ground.running.get(vm.id)
        assert live is not None
        version = live.machine.monitor.version
        return {"by": version, "machine": live.machine.shape.machine}


def _spoil(full: Path, delta: Path, spoil: Callable[[dict[str, Any]], None]) -> None:
    """Change both records and seal them again, so that only what they say is wrong."""
    base = _changed(full / META, spoil, None)
    _changed(delta / META, spoil, base)


def _changed(path: Path, spoil: Callable[[dict[str, Any]], None], base: str | None) -> str:
    record = json.loads(path.read_bytes())
    del record["seal"]
    spoil(record)
    if base is not None:
        record["base"] = base
    sealed: str = _seal_of(record)
    path.unlink()
    path.write_text(json.dumps({**record, "seal": sealed}))
    return sealed


def test_this_host_has_a_qemu_that_is_new_enough() -> None:
    """Say in so many words which QEMUs took part."""
    assert proc.run([_QEMUS[-1][1], "--version"]).ok
