"""Tasks that have a parent."""

import asyncio

import pytest

from emberkeep.base.aio import beside, unwrapped
from emberkeep.domain.errors import Conflict


def test_what_went_wrong_comes_out_of_its_groups():
    with pytest.raises(Conflict, match="twice") as raised, unwrapped():
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [Conflict("twice")]), ValueError()])
    assert isinstance(raised.value.__cause__, ExceptionGroup)


def test_what_is_in_no_group_is_left_alone():
    with pytest.raises(ValueError, match="alone"), unwrapped():
        raise ValueError("alone")


async def test_a_job_that_fails_ends_the_block():
    async def fails() -> None:
        raise Conflict("beside")

    with pytest.raises(Conflict, match="beside"):
        async with beside(fails()):
            await asyncio.Event().wait()
