"""The metadata service of the microVM: IMDSv2 as EC2 speaks it, told by the board (spec §9.3).

It runs beside the agent, in a process and a network namespace of its own, as nobody: the workload
may ask it for anything and as often as it likes, and can slow down nothing but its own answers.
"""

import asyncio
import json
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException, parse_headers
from io import BytesIO
from typing import Any, Final

from emberkeep_guest.addresses import GUEST_4
from emberkeep_guest.board import Board

ROLE: Final = "execution_role"  # what AWS calls the role of every microVM
TTL: Final = "x-aws-ec2-metadata-token-ttl-seconds"
TOKEN: Final = "x-aws-ec2-metadata-token"  # noqa: S105  the name of a header
LONGEST: Final = 21600  # seconds that a token may be valid
_MOST_TOKENS: Final = 1024  # the one that ends first gives way
_MOST_AT_ONCE: Final = 64
_MOST_HEAD: Final = 8192
_MOST_IGNORED: Final = 65536  # of a body, which says nothing
_WITHIN: Final = 5.0  # seconds for a whole connection
_PAUSE: Final = 0.1  # seconds, when not even a connection can be taken
_VERSION: Final = re.compile(r"latest|\d{4}-\d{2}-\d{2}")
_REQUEST: Final = re.compile(r"([A-Z]{1,16}) (?:http://[^/ ]+)?(/[!-~]*) HTTP/1\.[01]")


class Refused(Exception):
    """A request that is answered with a status and nothing else."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class Tokens:
    """The tokens that were given out and are still valid; they end with the microVM's identity."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._ends: dict[str, float] = {}
        self._epoch = 0

    def of(self, epoch: int) -> None:
        """Forget all tokens of another epoch."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._ends.clear()

    def new(self, seconds: int) -> str:
        """Give out a token."""
        now = self._now()
        self._ends = {token: end for token, end in self._ends.items() if end > now}
        if len(self._ends) >= _MOST_TOKENS:
            del self._ends[min(self._ends, key=self._ends.__getitem__)]
        token = os.urandom(32).hex()
        self._ends[token] = now + seconds
        return token

    def left(self, token: str) -> int:
        """Return how many seconds a token is still valid, 0 if it is none."""
        return max(0, int(self._ends.get(token, 0) - self._now()))


class Service:
    """Answers one request after the other."""

    def __init__(self, board: Board, tokens: Tokens) -> None:
        self._board = board
        self._tokens = tokens

    def answer(self, head: bytes) -> bytes:
        """Return the whole response to a request's line and headers."""
        method = ""
        try:
            method, path, headers = parsed(head)
            epoch, text = self._board.read()
            self._tokens.of(epoch)
            body, seconds = self._answer(method, path, headers, text)
        except Refused as refused:
            return _response(refused.status, "", 0, method)
        except (ValueError, HTTPException, TimeoutError):
            return _response(HTTPStatus.BAD_REQUEST, "", 0, method)
        return _response(HTTPStatus.OK, body, seconds, method)

    def _answer(
        self, method: str, path: str, headers: Mapping[str, str], text: bytes
    ) -> tuple[str, int]:
        if path == "latest/api/token":
            return self._token(method, headers)
        if method not in {"GET", "HEAD"}:
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED)
        left = self._tokens.left(headers.get(TOKEN, ""))
        if not left:
            raise Refused(HTTPStatus.UNAUTHORIZED)
        return found(tree(json.loads(text) if text else {}), path), left

    def _token(self, method: str, headers: Mapping[str, str]) -> tuple[str, int]:
        if method != "PUT":
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED)
        if "x-forwarded-for" in headers:  # a proxy, open to others, has been talked into this
            raise Refused(HTTPStatus.FORBIDDEN)
        seconds = headers.get(TTL, "")
        if not re.fullmatch("[0-9]{1,5}", seconds) or not 1 <= int(seconds) <= LONGEST:
            raise Refused(HTTPStatus.BAD_REQUEST)
        return self._tokens.new(int(seconds)), int(seconds)


def parsed(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Return method, path without slashes at its ends, and headers by their name in small letters.

    Raises ValueError or HTTPException for what is no request.
    """
    line, _, rest = head.partition(b"\r\n")
    match = _REQUEST.fullmatch(line.decode("ascii"))
    if match is None:
        raise ValueError("not a request line")
    headers = {name.lower(): value.strip() for name, value in parse_headers(BytesIO(rest)).items()}
    return match[1], match[2].partition("?")[0].strip("/"), headers


def tree(document: Mapping[str, Any]) -> dict[str, str]:
    """Return what stands at which path below the version, for what the host has told."""
    if not document:
        return {}
    region, zone = document["region"], f"{document['region']}a"
    leaves = {
        "meta-data/ami-id": document["image"],
        "meta-data/hostname": document["hostname"],
        "meta-data/instance-id": document["microvm_id"],
        "meta-data/local-hostname": document["hostname"],
        "meta-data/local-ipv4": GUEST_4,
        "meta-data/placement/availability-zone": zone,
        "meta-data/placement/region": region,
        "dynamic/instance-identity/document": _pretty(
            {
                "accountId": document["account"], "availabilityZone": zone,
                "imageId": document["image"], "instanceId": document["microvm_id"],
                "privateIp": GUEST_4, "region": region, "version": "2017-09-30",
            }
        ),
    }  # fmt: skip
    if credentials := document.get("credentials"):
        words = {"Code": "Success", "Type": "AWS-HMAC", **credentials}
        leaves[f"meta-data/iam/security-credentials/{ROLE}"] = _pretty(words)
    return leaves


def found(leaves: Mapping[str, str], path: str) -> str:
    """Return what stands at `path`, or the names below it; raise `Refused` if there is neither."""
    version, _, rest = path.partition("/")
    if not version:
        return "latest"
    if not _VERSION.fullmatch(version):
        raise Refused(HTTPStatus.NOT_FOUND)
    if rest in leaves:
        return leaves[rest]
    start = f"{rest}/" if rest else ""
    below = [name[len(start) :] for name in leaves if name.startswith(start)]
    if not below:
        raise Refused(HTTPStatus.NOT_FOUND)
    return "\n".join(sorted({name[: name.find("/") + 1] or name for name in below}))


async def serve(listener: socket.socket, service: Service) -> None:
    """Answer for ever, so many connections at once and no more."""
    free = asyncio.Semaphore(_MOST_AT_ONCE)
    async with asyncio.TaskGroup() as group:
        while True:
            await free.acquire()
            try:
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            except OSError:  # the workload has used up what there is of files or memory
                await asyncio.sleep(_PAUSE)
                free.release()
                continue
            group.create_task(_one(connection, service)).add_done_callback(lambda _: free.release())


async def _one(connection: socket.socket, service: Service) -> None:
    """Answer one request; whatever goes wrong is the client's."""
    loop = asyncio.get_running_loop()
    connection.setblocking(False)
    with connection, suppress(Exception):  # too late is one
        async with asyncio.timeout(_WITHIN):
            head = await _head(connection)
            if head is None:
                return
            await loop.sock_sendall(connection, service.answer(head))
            connection.shutdown(socket.SHUT_WR)
            rest = _MOST_IGNORED  # to close with bytes unread could destroy the answer
            while rest > 0 and (data := await loop.sock_recv(connection, _MOST_HEAD)):
                rest -= len(data)


async def _head(connection: socket.socket) -> bytes | None:
    """Receive a request up to the empty line; None if there is none, or too much of it."""
    head = bytearray()
    while (end := head.find(b"\r\n\r\n")) < 0:
        data = await asyncio.get_running_loop().sock_recv(connection, _MOST_HEAD)
        if not data or len(head) >= _MOST_HEAD:
            return None
        head += data
    return bytes(head[: end + 4])


def _response(status: HTTPStatus, body: str, seconds: int, method: str) -> bytes:
    text = body if status is HTTPStatus.OK else f"{status.value} - {status.phrase}\n"
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: text/plain",
        f"Content-Length: {len(text.encode())}",
        "Connection: close",
    ]
    if seconds:
        lines.append(f"{TTL}: {seconds}")
    return "\r\n".join([*lines, "", "" if method == "HEAD" else text]).encode()


def _pretty(values: Mapping[str, object]) -> str:
    return json.dumps(values, indent=2)
