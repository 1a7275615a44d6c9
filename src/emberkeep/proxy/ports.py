"""What the proxy needs of the world, and what its own halves are to each other."""

from collections.abc import Sequence
from typing import Protocol

from emberkeep.domain.microvms import MicroVM
from emberkeep.domain.ports import ByteStream, ExecSession
from emberkeep.domain.requests import ExecRequest
from emberkeep.proxy.headers import RequestHead, ResponseHead
from emberkeep.proxy.refusals import Headers, Refusal


class Connecting(Protocol):
    """The live session with a microVM's agent."""

    async def connect(self, port: int) -> ByteStream:
        """Connect to a port on the guest's loopback."""

    async def exec(self, request: ExecRequest) -> ExecSession:
        """Start a command: the shell."""


class Microvms(Protocol):
    """The microVMs of this machine."""

    def peek(self, microvm_id: str) -> MicroVM | None:
        """Return a live one by its id."""

    async def list(self) -> Sequence[MicroVM]:
        """Return the live ones."""

    async def show(self, ref: str) -> MicroVM:
        """Return one, also if it ended within the last day; or raise `NotFound`."""

    async def resume(self, ref: str) -> MicroVM:
        """Resume a SUSPENDED one, once whatever it is in has ended."""

    async def suspend(self, ref: str) -> MicroVM:
        """Suspend a RUNNING one."""

    async def terminate(self, ref: str) -> MicroVM:
        """Terminate one."""

    def agent(self, ref: str) -> Connecting:
        """Return the session of a RUNNING one, or raise `WrongState` or `AgentLost`."""


class Duplex(Protocol):
    """Bytes both ways, behind a 101."""

    async def read(self, most: int = 65536) -> bytes:
        """Return some bytes, or none at the end."""

    async def write(self, data: bytes) -> None:
        """Send all of `data`, as fast as it is taken."""

    async def write_eof(self) -> None:
        """Say that nothing more comes."""


class Exchange(Protocol):
    """A client's side of one request: its header is read, its body is not."""

    head: RequestHead

    @property
    def trailers(self) -> Headers:
        """Those of the request, once `read` has returned b""."""

    async def read(self) -> bytes:
        """Return a piece of the body, b"" at its end; raise `ClientGone`."""

    async def inform(self, status: int, headers: Headers) -> None:
        """Pass on an answer before the answer (1xx)."""

    async def respond(self, head: ResponseHead) -> None:
        """Begin the answer; with `head.ends` that was all of it."""

    async def write(self, data: bytes) -> None:
        """Send a piece of the answer's body, as fast as the client takes it."""

    async def finish(self, trailers: Headers) -> None:
        """End the answer."""

    async def refuse(self, refusal: Refusal, request_id: bytes) -> None:
        """Answer for the application."""

    async def switch(self, headers: Headers) -> Duplex:
        """Answer 101, and return what is a stream of bytes from there on (HTTP/1.1)."""


class Application(Protocol):
    """The application's side of one request."""

    @property
    def trailers(self) -> Headers:
        """Those of the answer, once `read` has returned b""."""

    @property
    def heard(self) -> bool:
        """Whether anything of the answer has come."""

    async def request(self, method: bytes, path: bytes, headers: Headers, *, body: bool) -> None:
        """Send the header of a request; without `body` it is complete."""

    async def write(self, data: bytes) -> None:
        """Send a piece of the request's body, as fast as the application takes it."""

    async def finish(self, trailers: Headers) -> None:
        """End the request."""

    async def response(self) -> ResponseHead:
        """Wait for the next header: 1xx, or the answer's."""

    async def read(self) -> bytes:
        """Return a piece of the answer's body, b"" at its end."""

    def switched(self) -> Duplex:
        """Return the stream of bytes that a 101 has begun (HTTP/1.1)."""

    def release(self) -> None:
        """Let go: what can serve another request is kept, all else is broken off. Idempotent."""


class ClientGone(Exception):
    """The client has closed its connection or its stream, or lost it."""


class Broken(Exception):
    """The application does not answer, or not as its protocol says."""
