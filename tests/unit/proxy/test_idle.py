"""When somebody last spoke to a microVM."""

from dataclasses import replace
from pathlib import Path

import msgspec

from tests.fakes.endpoints import keeping


async def test_activity_outlives_the_server(tmp_path: Path):
    (tmp_path / "endpoint-activity.json").write_text('{"microvm-1": 100.0, "microvm-2": 0}')
    async with keeping(tmp_path) as keep:
        assert keep.proxy.active_at("microvm-1") == 110  # as late as it may have been
        assert keep.proxy.active_at("microvm-2") == 0


async def test_what_is_noted_is_of_live_microvms(tmp_path: Path):
    async with keeping(tmp_path) as keep:
        vm = keep.microvms.add()
        gone = keep.microvms.add(2)
        for one in (vm, gone):
            keep.proxy.doors.of(one.id).touch()
        keep.microvms.vms[gone.id] = replace(gone, state=gone.state.TERMINATED)

        await keep.proxy._activity.note()

        noted = msgspec.json.decode((tmp_path / "endpoint-activity.json").read_bytes())
        assert noted == {vm.id: keep.proxy.active_at(vm.id)}
