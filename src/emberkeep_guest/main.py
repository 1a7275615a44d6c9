"""The agent as a whole: what it starts, and that it never ends."""

# pathlib would be one more import, and most of these are files of the kernel.
# ruff: noqa: PTH110

import asyncio
import gc
import os
import time
import traceback
from contextlib import suppress
from typing import Final

from emberkeep_guest import container, init, metadata, port
from emberkeep_guest.agent import Agent
from emberkeep_guest.board import Board
from emberkeep_guest.clock import Clock
from emberkeep_guest.console import Console
from emberkeep_guest.freezer import Freezer
from emberkeep_guest.metadata import Metadata
from emberkeep_guest.places import Places
from emberkeep_guest.reaper import Reaper
from emberkeep_guest.server import serve

_PORT_WITHIN: Final = 10.0


async def run(places: Places, service: Metadata) -> None:
    """Start the workload and answer the host, for ever."""
    reaper = Reaper(everything=os.getpid() == 1)
    reaper.install(asyncio.get_running_loop())
    console = Console(places.console)
    workload = await container.start(places, reaper, console)
    agent = Agent(
        places, workload, Freezer(places.cgroup), reaper=reaper, console=console, clock=Clock()
    )
    agent.board = service.board
    container.confine_agent(workload)
    if wrong := await service.ready():
        console.say(f"agent: there is no metadata service: {wrong}")
    agent.gateway = service.gateway
    reaper.watch(service.pid, lambda _: console.say("agent: the metadata service has ended"))
    device = port.VirtioPort(_found())
    gc.collect()
    gc.freeze()  # what is there now stays; a fork need not copy it for the collector's marks
    console.say("EMBERKEEP-READY")
    await serve(agent, device)


def main() -> None:
    """Be PID 1: whatever fails here is said on the console and ends the VM."""
    try:
        places = Places()
        init.prepare(places)
        asyncio.run(run(places, metadata.start(Board())))
    except BaseException as error:  # noqa: BLE001  the end of PID 1 would be a kernel panic
        with suppress(OSError):
            traceback.print_exc()
            print(f"EMBERKEEP-FAILED: agent: {error}", flush=True)  # noqa: T201  the console
    finally:
        init.power_off()


def _found() -> str:
    """Return the port's device, which may appear a moment after us."""
    deadline = time.monotonic() + _PORT_WITHIN
    while (path := port.find()) is None or not os.path.exists(path):
        if time.monotonic() > deadline:
            raise TimeoutError(f"there is no virtio port {port.NAME}")
        time.sleep(0.05)
    return path
