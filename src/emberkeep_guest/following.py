"""Operation `output`: the main process's output, for as long as the host listens."""

import struct
from typing import Final

from emberkeep_guest.agent import Agent, Call
from emberkeep_guest.messages import BEST_PAYLOAD, STDOUT, send_frame, send_message

PLACE: Final = struct.Struct(">Q")  # before the bytes of each frame: the place of their first
_PIECE: Final = BEST_PAYLOAD - PLACE.size


async def follow(agent: Agent, call: Call) -> None:
    """Send what was written since the place `after`, and goes on to be written."""
    output = agent.console.output
    place = min(call.request.integer("after"), output.end)
    await send_message(call.stream, {"ok": True, "after": place})
    while True:
        place, data = await output.read(place, _PIECE)
        await send_frame(call.stream, STDOUT, PLACE.pack(place) + data)
        place += len(data)
