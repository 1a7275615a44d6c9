"""The metadata service of the guest: what it answers, and to whom."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberkeep_guest import imds
from emberkeep_guest.board import MOST, Board
from emberkeep_guest.imds import LONGEST, Service, Tokens
from emberkeep_guest.metadata import listening

ABOUT = {
    "microvm_id": "microvm-1", "hostname": "web", "image": "debian-12", "region": "eu-west-1",
    "account": "000000000000",
}  # fmt: skip
KEYS = {"AccessKeyId": "AKIA1", "SecretAccessKey": "s", "Token": "t", "Expiration": "later"}
ROLE = "/latest/meta-data/iam/security-credentials/"


class Client:
    """Asks a service without a network."""

    def __init__(self, board: Board | None = None) -> None:
        self.now = 1000.0
        self.board = board or Board()
        self.service = Service(self.board, Tokens(lambda: self.now))

    def ask(self, method: str, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""])
        return answered(self.service.answer(head.encode()))

    def token(self, seconds: int = 60) -> str:
        status, token, _ = self.ask(
            "PUT", "/latest/api/token", X_aws_ec2_metadata_token_ttl_seconds=str(seconds)
        )
        assert status == 200
        return token

    def get(self, path: str, token: str | None = None) -> tuple[int, str]:
        return self.ask("GET", path, X_aws_ec2_metadata_token=token or self.token())[:2]


def answered(response: bytes) -> tuple[int, str, dict[str, str]]:
    head, _, body = response.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    return int(first.split()[1]), body, dict(line.split(": ", 1) for line in lines)


def shown(**more: Any) -> Client:
    client = Client()
    client.board.write(json.dumps({**ABOUT, **more}).encode())
    return client


def test_a_token_opens_what_is_known_of_the_microvm():
    client = shown()

    assert client.get("/latest/meta-data/instance-id") == (200, "microvm-1")
    assert client.get("/latest/meta-data/placement/region") == (200, "eu-west-1")
    assert client.get("/latest/meta-data/placement/availability-zone/") == (200, "eu-west-1a")
    assert client.get("/2021-07-15/meta-data/ami-id") == (200, "debian-12")
    document = json.loads(client.get("/latest/dynamic/instance-identity/document")[1])
    assert (document["accountId"], document["instanceId"]) == ("000000000000", "microvm-1")


def test_folders_list_what_is_in_them():
    client = shown(credentials=KEYS)

    assert client.get("/") == (200, "latest")
    assert client.get("/latest") == (200, "dynamic/\nmeta-data/")
    assert client.get("/latest/meta-data/placement/") == (200, "availability-zone\nregion")
    assert client.get(ROLE) == client.get(ROLE.rstrip("/")) == (200, "execution_role")


def test_a_role_gives_credentials_in_the_words_of_ec2():
    status, text = shown(credentials=KEYS).get(f"{ROLE}execution_role")

    assert status == 200
    assert json.loads(text) == {"Code": "Success", "Type": "AWS-HMAC", **KEYS}


@pytest.mark.parametrize(
    "path", ["/latest/meta-data/iam/", ROLE, f"{ROLE}execution_role", "/latest/user-data", "/x"]
)
def test_what_is_not_there_is_not_found(path: str):
    assert shown().get(path)[0] == 404


def test_without_a_token_or_with_a_false_one_nothing_is_told():
    client = shown(credentials=KEYS)

    for path in (f"{ROLE}execution_role", "/latest/meta-data/", "/", "/nothing"):
        assert client.ask("GET", path)[0] == 401
        assert client.get(path, "0" * 64)[0] == 401


def test_a_token_ends():
    client = shown()
    token = client.token(60)
    before = client.ask("GET", "/latest/", X_aws_ec2_metadata_token=token)
    client.now += 61

    assert before[0] == 200
    assert before[2][imds.TTL] == "60"
    assert client.get("/latest/", token)[0] == 401


@pytest.mark.parametrize("seconds", ["", "0", "-1", str(LONGEST + 1), "1e3", "60 60"])
def test_a_token_needs_a_sensible_life(seconds: str):
    headers = {"X_aws_ec2_metadata_token_ttl_seconds": seconds} if seconds else {}

    assert Client().ask("PUT", "/latest/api/token", **headers)[0] == 400


def test_no_token_is_given_through_a_proxy():
    status, text, _ = Client().ask(
        "PUT", "/latest/api/token", X_Forwarded_For="192.0.2.1",
        X_aws_ec2_metadata_token_ttl_seconds="60",  # noqa: S106  a number of seconds
    )  # fmt: skip

    assert (status, text) == (403, "403 - Forbidden\n")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/latest/meta-data/"), ("PUT", "/latest/meta-data/"), ("DELETE", "/"),
     ("GET", "/latest/api/token"), ("POST", "/latest/api/token")],
)  # fmt: skip
def test_other_methods_are_not_allowed(method: str, path: str):
    client = shown()

    assert client.ask(method, path, X_aws_ec2_metadata_token=client.token())[0] == 405


def test_head_is_get_without_the_body():
    client = shown()
    token = client.token()
    status, text, headers = client.ask(
        "HEAD", "/latest/meta-data/instance-id", X_aws_ec2_metadata_token=token
    )

    assert (status, text, headers["Content-Length"]) == (200, "", "9")


def test_a_clone_knows_no_token_of_its_snapshot_and_none_of_its_secrets():
    client = shown(credentials=KEYS)
    token = client.token()
    client.board.renew()
    between = client.get(f"{ROLE}execution_role", client.token())
    client.board.write(json.dumps({**ABOUT, "microvm_id": "microvm-2"}).encode())

    assert between[0] == 404
    assert client.get("/latest/meta-data/instance-id", token)[0] == 401
    assert client.get("/latest/meta-data/instance-id") == (200, "microvm-2")


def test_tokens_are_bounded_and_the_one_that_ends_first_gives_way():
    tokens = Tokens(lambda: 0.0)
    kept, first = tokens.new(1000), tokens.new(10)
    for _ in range(1023):
        tokens.new(500)

    assert tokens.left(kept) == 1000
    assert tokens.left(first) == 0


@given(st.binary(max_size=300))
def test_anything_is_answered(head: bytes):
    assert Client(_BOARD).service.answer(head + b"\r\n\r\n").startswith(b"HTTP/1.1 4")


_BOARD = Board()


def test_too_many_headers_are_refused():
    head = "GET /latest/ HTTP/1.1\r\n" + "a: b\r\n" * 200 + "\r\n"

    assert answered(Client().service.answer(head.encode()))[0] == 400


def test_a_board_that_is_wiped_keeps_no_byte():
    board = Board()
    board.write(b"secret" * 100)
    board.write(b"short")
    after_write = b"secret" in board._memory[:]
    board.write(b"secret" * 100)
    board.wipe()

    assert not after_write
    assert b"secret" not in board._memory[:]
    assert board.read() == (0, b"")


def test_a_board_has_room_for_one_document():
    board = Board()
    board.write(bytes(MOST))
    with pytest.raises(ValueError, match="allowed"):
        board.write(bytes(MOST + 1))

    assert board.read() == (0, bytes(MOST))


@contextmanager
def running(client: Client) -> Iterator[tuple[str, int]]:
    """Run the service on loopback, in a thread."""
    listener = listening(("127.0.0.1", 0))
    up = Event()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        task = loop.create_task(imds.serve(listener, client.service))
        loop.call_soon(up.set)
        with suppress(asyncio.CancelledError):
            await task

    def work() -> None:
        loop.run_until_complete(run())

    thread = Thread(target=work)
    thread.start()
    assert up.wait(5)
    try:
        yield listener.getsockname()
    finally:
        loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
        thread.join()
        loop.close()
        listener.close()


def exchanged(address: tuple[str, int], data: bytes) -> bytes:
    with socket.create_connection(address, timeout=5) as connection, suppress(ConnectionError):
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))
    return b""


def test_over_the_network_the_answer_travels_one_hop():
    client = shown()
    with running(client) as address:
        answer = exchanged(
            address, b"PUT /latest/api/token HTTP/1.1\r\nContent-Length: 4\r\n"
            b"X-aws-ec2-metadata-token-ttl-seconds: 5\r\n\r\nbody",
        )  # fmt: skip
        with listening(("127.0.0.1", 0)) as one:
            hops = one.getsockopt(socket.IPPROTO_IP, socket.IP_TTL)

    assert answered(answer)[0] == 200
    assert hops == 1


def test_clients_that_say_nothing_or_too_much_do_not_keep_others_out():
    client = shown()
    with running(client) as address:
        silent = [socket.create_connection(address) for _ in range(63)]
        flood = exchanged(address, b"x" * 100_000)
        answer = exchanged(address, b"GET / HTTP/1.0\r\n\r\n")
        for one in silent:
            one.close()

    assert flood == b""
    assert answered(answer)[0] == 401
