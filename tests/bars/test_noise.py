"""Bar 5: noise on the channel: both ends against anything, and snapshots taken amid floods."""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import pytest

from emberkeep.base.aio import beside
from emberkeep_guest.hello import HelloFailed, greet
from emberkeep_guest.messages import BadMessage
from emberkeep_guest.session import Session, SessionError
from emberkeep_guest.yamux import WINDOW, header
from emberkeep_sdk import Emberkeep, EmberkeepError, MicroVM
from tests.bars.knobs import Figures, number
from tests.bars.servers import IMAGE, BarServer, Io
from tests.fakes.pipes import End, Flow
from tests.unit.guest_channel.test_cuts import _asks, _guest, served

pytestmark = [pytest.mark.bars, pytest.mark.timeout(3600)]

_HELLO: Final = b"EMBERKEEP/1 " + b"0" * 32 + b"\n"
_EXPECTED: Final = (
    TimeoutError, SessionError, HelloFailed, BadMessage, EOFError, ValueError, AssertionError,
    asyncio.CancelledError,
)  # fmt: skip
_NONCE: Final = "c" * 32


class Noise(Flow):
    """A way that loses, doubles, changes and adds bytes now and then, until it is mended."""

    def __init__(self, chance: random.Random, rate: float) -> None:
        super().__init__(1 << 20)
        self._chance = chance
        self.rate = rate
        self.spoilt = 0

    async def put(self, data: bytes) -> None:
        if self._chance.random() < self.rate:
            data = self._spoil(bytearray(data))
            self.spoilt += 1
        if data:
            await super().put(data)

    def _spoil(self, data: bytearray) -> bytes:
        chance, at = self._chance, self._chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0:
                del data[at : at + chance.randrange(1, 200)]
            case 1:
                data[at:at] = chance.randbytes(chance.randrange(1, 200))
            case 2:
                data[at:at] = data[max(0, at - 50) : at]
            case 3 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 4:
                data[at:at] = chance.choice([_HELLO, _HELLO[:20], b"\n" * 70_000])
            case _:
                data[at:at] = _frames(chance)
        return bytes(data)


async def test_both_ends_survive_any_noise_and_find_each_other_again(figures: Figures):
    """The guest's loop lives through all of it; a host gets a clean session as soon as it can."""
    seconds, rounds, spoilt, survived = number("FUZZ_S", 60), 0, 0, 0
    chance = random.Random(number("SEED", 1))  # noqa: S311  the bar's own
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ins = Noise(chance, chance.choice([0, 0.02, 0.2, 1]))
        outs = Noise(chance, chance.choice([0, 0.02, 0.2, 1]))
        host, guest = End(ins, outs), End(outs, ins, lambda: chance.choice([7, 1000, 1 << 16]))
        async with beside(_guest(guest)):
            survived += await _conversed(host)
            ins.rate = outs.rate = 0
            spoilt += ins.spoilt + outs.spoilt
            async with asyncio.timeout(30):
                await _met(host)
        rounds += 1
    figures("fuzz both ends", s=seconds, rounds=rounds, spoilt_writes=spoilt, survived=survived)

    assert rounds > seconds / 10


async def test_a_host_and_a_guest_are_safe_from_each_other(figures: Figures):
    """Each end alone against frames, hellos and junk: it ends in its own errors, and bounded."""
    seconds = number("FUZZ_S", 60)
    rounds = {"host": 0, "guest": 0}
    sent = 0
    chance = random.Random(number("SEED", 1))  # noqa: S311  the bar's own
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        role = chance.choice(["host", "guest"])
        ours, theirs = _joined(chance)
        session = Session(ours, client=role == "host")
        streams = [session.open() for _ in range(3 if role == "host" else 0)]
        async with asyncio.timeout(20):
            async with beside(_ran(session), served(session), _read(theirs)):
                for stream in streams:
                    await stream.write(b"x")
                for _ in range(chance.randrange(1, 60)):
                    data = _frames(chance)
                    sent += len(data)
                    with suppress(BrokenPipeError):
                        await theirs.write(data)
                await ours.ins.end()
                await session._over.wait()
        rounds[role] += 1
        assert session._streams == {}
        assert all(len(stream._inbox) <= WINDOW for stream in streams)
    figures("fuzz each end", s=seconds, hosts=rounds["host"], guests=rounds["guest"], bytes=sent)


def test_a_snapshot_amid_floods_leaves_a_channel_that_works(
    server: BarServer, ek: Emberkeep, figures: Figures
):
    times = number("FLOODS", 20)
    first: list[float] = []
    moved: list[float] = []
    with ek.launch(IMAGE, name="flooded") as vm:
        for count in range(times):
            floods = [_Flood(kind, vm) for kind in (_yes, _upload, _duplex)]
            before = Io.of(server.pid)
            for flood in floods:
                flood.start()
            time.sleep(0.5 + count % 7 / 5)
            vm.suspend()
            moved.append((Io.of(server.pid) - before).read / 1e6)
            for flood in floods:
                flood.join(60)
                assert not flood.is_alive()
            vm.resume()
            begun = time.monotonic()
            assert vm.exec(["sh", "-c", f"echo {count}"], timeout=60).stdout == f"{count}\n"
            first.append(time.monotonic() - begun)
            vm.exec("pkill yes; pkill cat; rm -f /var/tmp/up*; true")
        figures("floods", snapshots=times, first_exec_s_max=max(first), mb_moved_max=max(moved),
                overlay=server.home_of(vm.id).exists())  # fmt: skip


class _Flood(threading.Thread):
    """One client that sends or takes without end, until the suspend cuts it off."""

    def __init__(self, kind: Callable[[MicroVM], None], vm: MicroVM) -> None:
        super().__init__(daemon=True)
        self._kind, self._vm = kind, vm

    def run(self) -> None:
        with suppress(EmberkeepError):
            self._kind(self._vm)


def _yes(vm: MicroVM) -> None:
    with vm.start(["yes"], stdin=False) as running:
        for _ in running:
            pass


def _upload(vm: MicroVM) -> None:
    vm.files.write("/var/tmp/up", (bytes(65536) for _ in range(4000)))  # noqa: S108  in the guest


def _duplex(vm: MicroVM) -> None:
    with vm.start(["cat"]) as running:
        running.drain(lambda _stream, _piece: None, stdin=(bytes(65536) for _ in range(4000)))


def _frames(chance: random.Random) -> bytes:
    """Return something that may come: a frame, right or wrong, or no frame at all."""
    if chance.random() < 0.1:
        return chance.choice([chance.randbytes(chance.randrange(1, 300)), _HELLO, b"\n" * 70_000])
    kind, size = chance.randrange(4), chance.choice([0, 1, 100, 40_000])
    length = size if kind == 0 else chance.choice([0, 1, 1000, WINDOW, 2**32 - 1])
    if chance.random() < 0.05:
        length = chance.randrange(1 << 32)
    data = chance.randbytes(size) if kind == 0 else b""
    flags = chance.choice([0, 0, 0, 1, 2, 4, 8, chance.randrange(16)])
    return header(kind, flags, chance.randrange(10), length) + data


def _joined(chance: random.Random) -> tuple[End, End]:
    one, other = Flow(1 << 20), Flow(1 << 20)
    return End(one, other, lambda: chance.choice([7, 1000, 1 << 16])), End(other, one)


async def _ran(session: Session) -> None:
    with suppress(SessionError):
        await session.run()


async def _read(end: End) -> None:
    while await end.read(1 << 16):
        pass


async def _conversed(host: End) -> bool:
    """Try to use the channel while it is noisy; what was said may come changed, too."""
    try:
        async with asyncio.timeout(0.05):
            port = await greet(host, "a" * 32, 0.03)
            await _asks(Session(port, client=True))
    except _EXPECTED:
        return False
    except BaseExceptionGroup as errors:  # both the session and who used it have failed
        if errors.split(_EXPECTED)[1] is not None:
            raise
        return False
    return True


async def _met(host: End) -> None:
    """Find the guest again, as `guestlink` does: with more patience each time."""
    for wait in (1, 2, 4, 8):
        with suppress(TimeoutError, HelloFailed):
            port = await greet(host, _NONCE, wait, again=True)
            await _asks(Session(port, client=True))
            return
    raise AssertionError("the guest is not to be reached any more")
