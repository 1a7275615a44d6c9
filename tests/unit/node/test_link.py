"""The session with an agent: made again when it breaks, and nobody waits for one in vain."""

import asyncio
from pathlib import Path

import pytest

from emberkeep.base.aio import beside
from emberkeep.domain.errors import AgentLost, GuestError
from emberkeep.node.link import Link
from tests.fakes.guest import listening, says

OK = {"ok": True}


async def test_a_session_that_ends_is_made_again(tmp_path: Path):
    async with listening(tmp_path / "s", says(OK)) as guest:
        link = Link(tmp_path / "s")
        async with beside(link.keep()):
            first = await link.ready(deadline_s=10)
            assert guest.session
            await guest.session.close()
            await first.wait_lost()
            await asyncio.sleep(0)
            assert await link.ready(deadline_s=10) is not first
            assert guest.connections == 2
            await link.close()


async def test_a_guest_that_ends_each_session_does_not_make_us_spin(tmp_path: Path):
    async with listening(tmp_path / "s", says(OK)) as guest:
        link = Link(tmp_path / "s")

        async def cut() -> None:
            while True:
                agent = await link.ready(deadline_s=10)
                assert guest.session
                await guest.session.close()
                await agent.wait_lost()
                await asyncio.sleep(0)

        async with beside(link.keep(), cut()):
            await asyncio.sleep(1.2)
        assert guest.connections <= 4


async def test_closing_does_not_wait_for_a_guest_that_does_not_answer(tmp_path: Path):
    async with listening(tmp_path / "s", says(OK)) as guest:
        guest.silent = 100
        link = Link(tmp_path / "s")
        async with beside(link.keep()), asyncio.timeout(5):
            await asyncio.sleep(0.1)
            await link.close()


async def test_who_waits_for_a_session_is_told_when_there_will_be_none(tmp_path: Path):
    link = Link(tmp_path / "nobody")
    async with beside(link.keep()), asyncio.timeout(5):
        waiting = asyncio.create_task(link.ready(deadline_s=100))  # noqa: TID251  a test's
        await asyncio.sleep(0.05)
        link.give_up()
        with pytest.raises(AgentLost):
            await waiting


async def test_a_refused_freeze_leaves_the_session(tmp_path: Path):
    no = {"error": {"kind": "timeout", "message": "a process could not be frozen"}}
    async with listening(tmp_path / "s", says(no)):
        link = Link(tmp_path / "s")
        async with beside(link.keep()):
            with pytest.raises(GuestError, match="could not be frozen"):
                await link.freeze(deadline_s=10)
            assert link.agent is not None
            await link.close()
