"""What a real guest finds of its network: addresses, names, and what it is told about itself."""

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from emberkeep_sdk import Emberkeep, MicroVM, NotFound
from tests.vm.conftest import IMAGE
from tests.vm.servers import Server, serving

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300, func_only=True)]

SECRET = "known-to-nobody-but-this-test"  # noqa: S105
ROLES = {"ci": {"access_key_id": "AKIATEST", "secret_access_key": SECRET}}
ADDRESS = "198.18.7.7"

_LOOK = """
import json, socket
def source(family, to):
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.connect((to, 9))
        return one.getsockname()[0]
print(json.dumps({
    "four": source(socket.AF_INET, "192.0.2.9"),
    "six": source(socket.AF_INET6, "2001:db8::9"),
    "resolv.conf": open("/etc/resolv.conf").read(),
    "hosts": [line.split() for line in open("/etc/hosts") if line.strip()],
    "mtu": open("/sys/class/net/eth0/mtu").read().strip(),
}))
"""
_RESOLVE = """
import socket, sys
try:
    print(sorted({one[4][0] for one in socket.getaddrinfo(sys.argv[1], 80)}))
except OSError as error:
    print("error", error.errno)
"""
_ASK = """
import json, sys, urllib.error, urllib.request
def ask(path, method="GET", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    url = "http://169.254.169.254" + path
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, method=method, headers=headers), timeout=20
        ) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
token = ask("/latest/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds="60")[1]
paths = sys.argv[1:]
print(json.dumps({
    "without": [ask(path)[0] for path in paths],
    "with": [ask(path, X_aws_ec2_metadata_token=token) for path in paths],
}))
"""
CREDENTIALS = "/latest/meta-data/iam/security-credentials/execution_role"
WHO = "/latest/meta-data/instance-id"


class Resolver:
    """Answers every question for an address of IPv4 with the same one."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                message, client = self._socket.recvfrom(4096)
                if not message:
                    return
                self.asked.append(message)
                end = message.index(b"\0", 12) + 5
                of_four = message[end - 4 : end - 2] == b"\0\1"
                head = message[:2] + struct.pack(">5H", 0x8180, 1, of_four, 0, 0)
                record = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(ADDRESS)
                answer = head + message[12:end] + (record if of_four else b"")
                self._socket.sendto(answer, client)


@pytest.fixture(scope="module")
def resolver() -> Iterator[Resolver]:
    one = Resolver()
    yield one
    one.close()


@pytest.fixture(scope="module")
def served(another: Path, home: Path, resolver: Resolver) -> Iterator[Server]:
    """Run a server that asks `resolver` and knows a role."""
    env = {"EMBERKEEP_NETWORK_DNS": resolver.address, "EMBERKEEP_ROLES": json.dumps(ROLES)}
    with serving(Server(another, home, env=env)) as one:
        yield one


@pytest.fixture(scope="module")
def client(served: Server) -> Iterator[Emberkeep]:
    with served.client() as one:
        yield one


@pytest.fixture(scope="module")
def guest(client: Emberkeep) -> Iterator[MicroVM]:
    with client.launch(IMAGE, name="told", role="ci") as launched:
        yield launched


def run(vm: MicroVM, script: str, *args: str) -> str:
    return vm.exec(["python3", "-c", script, *args], check=True).stdout


def asked(vm: MicroVM, *paths: str) -> Any:
    return json.loads(run(vm, _ASK, *paths))


def test_addresses_and_files_are_right_before_and_after_a_suspend(guest: MicroVM):
    before = json.loads(run(guest, _LOOK))
    guest.suspend()
    guest.resume()
    after = json.loads(run(guest, _LOOK))

    assert before == after
    assert (before["four"], before["six"]) == ("10.213.0.2", "fd65:6d62:6572::2")
    assert before["resolv.conf"] == "nameserver 10.213.0.1\n"
    assert ["127.0.0.1", "localhost", "told"] in before["hosts"]
    assert before["mtu"] == "1500"


def test_names_are_asked_of_the_configured_resolver(
    guest: MicroVM, client: Emberkeep, resolver: Resolver
):
    guest.refresh()
    if guest.details["network"]["uplink"] == "none":
        pytest.skip("there is no uplink here")
    with client.launch(IMAGE, name="secluded", egress="none") as secluded:
        found = run(guest, _RESOLVE, "seen.example")
        nothing = run(secluded, _RESOLVE, "unseen.example")

    assert found == f"['{ADDRESS}']\n"
    assert "error" in nothing
    assert any(b"\x04seen\x07example" in one for one in resolver.asked)
    assert not any(b"unseen" in one for one in resolver.asked)


def test_metadata_is_told_with_a_token_only_and_credentials_to_whom_has_the_role(
    guest: MicroVM, client: Emberkeep
):
    with client.launch(IMAGE, name="untold") as other:
        mine, theirs = asked(guest, WHO, CREDENTIALS), asked(other, WHO, CREDENTIALS)

    assert mine["without"] == theirs["without"] == [401, 401]
    assert [mine["with"][0], theirs["with"][0]] == [[200, guest.id], [200, other.id]]
    assert json.loads(mine["with"][1][1])["SecretAccessKey"] == SECRET
    assert theirs["with"][1] == [404, ""]


def test_credentials_are_there_again_after_a_resume_and_in_no_snapshot_of_the_image(
    guest: MicroVM, served: Server
):
    guest.suspend()
    guest.resume()
    first = asked(guest, CREDENTIALS)["with"][0]
    images = [path for path in (served.data / "images").rglob("*") if path.is_file()]

    assert json.loads(first[1])["SecretAccessKey"] == SECRET
    assert images
    assert [path.name for path in images if _holds(path, SECRET.encode())] == []


def test_a_killed_server_is_followed_by_one_that_answers_names_again(
    guest: MicroVM, served: Server
):
    served.kill()
    served.up()
    with served.client() as client:
        vm = client.get(guest.id)
        found, told = run(vm, _RESOLVE, "again.example"), asked(vm, WHO, CREDENTIALS)

    assert told["with"][0] == [200, guest.id]
    assert json.loads(told["with"][1][1])["SecretAccessKey"] == SECRET
    assert ADDRESS in found or vm.details["network"]["uplink"] == "none"


def test_an_unknown_role_is_refused(client: Emberkeep):
    with pytest.raises(NotFound, match="no role"):
        client.launch(IMAGE, role="nobody")


def _holds(path: Path, word: bytes) -> bool:
    with path.open("rb") as file:
        rest = b""
        while piece := file.read(1 << 24):
            if word in rest + piece:
                return True
            rest = piece[-len(word) :]
    return False
