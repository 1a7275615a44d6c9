"""HTTP/2 over any stream of bytes, either end of it: streams with flow control both ways."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error, NoSuchStreamError, ProtocolError, StreamClosedError
from h2.settings import SettingCodes, Settings

from emberkeep.proxy.frames import PREFACE, Gauge
from emberkeep.proxy.lanes import WINDOW, Answer, Lane, translated

STREAMS: Final = 128  # that a client may have open at once
_HEAD: Final = 65536  # bytes of a header
_WINDOW: Final = 1 << 20  # of the connection
_MOST: Final = 8 << 20
_PIECE: Final = 64 * 1024
_PATIENCE: Final = 1000.0  # events that ask for nothing useful: so many at once …
_PATIENCE_RATE: Final = 100.0  # … and so many per second are suffered
_USEFUL: Final = (DataReceived, RequestReceived, ResponseReceived, StreamEnded, TrailersReceived)


class Bytes(Protocol):
    """What HTTP/2 runs over."""

    async def read(self) -> bytes:
        """Return what has come, b"" at the end."""

    async def write(self, data: bytes) -> None:
        """Send, as fast as it is taken."""


class Session:
    """One connection; `opened` is called with each stream that the other end begins."""

    def __init__(
        self, under: Bytes, *, client: bool, opened: Callable[[Lane, Answer], None]
    ) -> None:
        config = H2Configuration(client_side=client, header_encoding=None)
        self.connection = H2Connection(config)
        self.over = False
        self._under = under
        self._gauge = Gauge(preface=b"" if client else PREFACE)
        self._opened = opened
        self._lanes: dict[int, Lane] = {}
        self._window = _WINDOW
        self._taken = 0
        self._patience = _PATIENCE
        self._tried_at = asyncio.get_running_loop().time()

    @property
    def busy(self) -> bool:
        """Whether there is an open stream."""
        return bool(self._lanes)

    @property
    def room(self) -> bool:
        """Whether another stream may be opened."""
        most = min(self.connection.remote_settings.max_concurrent_streams, STREAMS)
        return not self.over and len(self._lanes) < most

    async def begin(self) -> None:
        """Say the first words."""
        connection = self.connection
        ours = {
            SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
            SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
            SettingCodes.MAX_HEADER_LIST_SIZE: _HEAD,
        }
        if connection.config.client_side:
            ours[SettingCodes.ENABLE_PUSH] = 0
        # not `update`: what is changed by that counts only once the other end has agreed
        connection.local_settings = Settings(
            client=connection.config.client_side, initial_values=ours
        )
        connection.initiate_connection()
        connection.increment_flow_control_window(_WINDOW - 65535)
        await self.flush()

    async def run(self, *, idle_s: float) -> None:
        """Move bytes until either end has had enough, breaks the protocol, or is idle too long."""
        try:
            while True:
                data = await self._read(idle_s)
                if not data:
                    return
                if code := self._gauge.fault(data):
                    await self.goodbye(code)
                    return
                try:
                    events = self.connection.receive_data(data)
                except ProtocolError:
                    await self.flush()  # the GOAWAY that says why
                    return
                for event in events:
                    self._dispatch(event)
                await self.flush()
        finally:
            self.over = True
            for lane in list(self._lanes.values()):
                lane.fail()
            self._lanes.clear()

    async def goodbye(self, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """Say that no more streams are taken."""
        with translated():
            self.connection.close_connection(code)
        await self.flush()

    def open(self) -> Lane:
        """Return a new stream of ours."""
        lane = Lane(self, self.connection.get_next_available_stream_id())
        self._lanes[lane.number] = lane
        return lane

    async def flush(self) -> None:
        """Send what is to be sent."""
        data = self.connection.data_to_send()
        if data:
            await self._under.write(data)

    async def took(self, lane: Lane, flow: int, growth: int) -> None:
        """Give window back for data that was read, and more of it to who takes it quickly."""
        connection = self.connection
        try:
            connection.acknowledge_received_data(flow, lane.number)
            if growth and not lane.over:
                connection.increment_flow_control_window(growth, lane.number)
        except (NoSuchStreamError, StreamClosedError):
            pass  # it ended meanwhile; the connection has its window back
        self._taken += flow
        if self._taken >= self._window and self._window < _MOST:
            self._taken = 0
            connection.increment_flow_control_window(self._window)
            self._window *= 2
        await self.flush()

    def put_data(self, lane: Lane, data: memoryview) -> int:
        """Queue as much of `data` as the windows allow, and return how much that was."""
        sent = 0
        with translated():
            room = min(self.connection.local_flow_control_window(lane.number), _PIECE, len(data))
            while sent < room:
                size = min(room - sent, self.connection.max_outbound_frame_size)
                self.connection.send_data(lane.number, bytes(data[sent : sent + size]))
                sent += size
        return sent

    def put_reset(self, lane: Lane, code: ErrorCodes) -> None:
        """Queue the end of a stream."""
        with suppress(H2Error):  # it is gone, or was never begun
            self.connection.reset_stream(lane.number, code)
        self._lanes.pop(lane.number, None)

    def forget(self, lane: Lane) -> None:
        """Drop a stream that is over."""
        if lane.over:
            self._lanes.pop(lane.number, None)

    async def _read(self, idle_s: float) -> bytes:
        while True:
            try:
                async with asyncio.timeout(idle_s):
                    return await self._under.read()
            except TimeoutError:
                if not self._lanes:
                    await self.goodbye()
                    return b""

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, WindowUpdated | RemoteSettingsChanged):
            self._widened(event)
        elif isinstance(event, ConnectionTerminated):
            self.over = True
        elif isinstance(event, RequestReceived):
            lane = Lane(self, event.stream_id or 0)
            self._lanes[lane.number] = lane
            answer = Answer(list(event.headers or []), ends=event.stream_ended is not None)
            self._opened(lane, answer)
        else:
            self._on_stream(event)
        if not isinstance(event, _USEFUL) or (isinstance(event, DataReceived) and not event.data):
            self._suffer()

    def _on_stream(self, event: Event) -> None:
        lane = self._lanes.get(getattr(event, "stream_id", None) or 0)
        if lane is None:
            self._stray(event)
        elif isinstance(event, DataReceived):
            lane.received(event.data or b"", event.flow_controlled_length or 0)
        elif isinstance(event, ResponseReceived | InformationalResponseReceived):
            ends = getattr(event, "stream_ended", None) is not None
            lane.arrived(Answer(list(event.headers or []), ends=ends))
        elif isinstance(event, TrailersReceived):
            lane.trailers = list(event.headers or [])
        elif isinstance(event, StreamEnded):
            lane.finished()
            self.forget(lane)
        elif isinstance(event, StreamReset):
            self._lanes.pop(lane.number, None)
            lane.fail()

    def _stray(self, event: Event) -> None:
        """Give the connection its window back for data of a stream that is over."""
        if isinstance(event, DataReceived) and event.flow_controlled_length:
            with suppress(H2Error):
                self.connection.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id or 0
                )

    def _widened(self, event: WindowUpdated | RemoteSettingsChanged) -> None:
        number = getattr(event, "stream_id", 0)
        for lane in self._lanes.values():
            if not number or lane.number == number:
                lane.widened()

    def _suffer(self) -> None:
        """Let an event pass that asks for nothing useful, unless there are too many."""
        self._patience -= 1
        if self._patience > 0:
            return
        now = asyncio.get_running_loop().time()
        self._patience = min(_PATIENCE, (now - self._tried_at) * _PATIENCE_RATE)
        self._tried_at = now
        if self._patience < 1:
            with translated():
                self.connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            raise Flood


class Flood(Exception):
    """The other end keeps us busy with nothing."""
