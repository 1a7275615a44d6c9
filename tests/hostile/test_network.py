"""Guests that try to reach what they must not; what they may is reached, or it proves nothing."""

import json
from collections.abc import Sequence

import pytest

from emberkeep_guest.addresses import GATEWAY_4, GATEWAY_6, GUEST_4, GUEST_6, GUEST_MAC
from emberkeep_sdk import Emberkeep, MicroVM
from tests.hostile.conftest import Neighbour
from tests.hostile.guests import METADATA, REACH, SPOOF
from tests.hostile.world import HOST, OUTSIDE, PORT, PRIVATE, PUBLIC, PUBLIC_6, World
from tests.hostile.world import METADATA as CLOUDS
from tests.vm.conftest import IMAGE
from tests.vm.servers import Server, as_root, eventually

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300, func_only=True), as_root]

LISTENING = 7100
_SERVES = f"python3 -m http.server --bind :: {LISTENING} >/dev/null 2>&1 &"


def test_the_public_internet_and_nothing_else(hostile: MicroVM, neighbour: Neighbour, world: World):
    assert world.reached_from_the_host() == {*OUTSIDE}  # so it is not the world that is in the way

    told = _reached(hostile, [(one, PORT) for one in OUTSIDE])

    assert _names(told) == {f"{PUBLIC}:{PORT}", f"{PUBLIC_6}:{PORT}"}, told
    assert {one["from"] for one in world.outside.told if one["to"] == PUBLIC} <= {HOST[0]}


def test_the_host_and_the_api(hostile: MicroVM, neighbour: Neighbour, world: World, server: Server):
    every = [*HOST, *world.addresses_of_links(), GATEWAY_4, GATEWAY_6, "127.0.0.1", "::1"]
    targets = [(one, port) for one in every for port in (PORT + 1, server.port)]
    before = len(world.host.told)

    told = _reached(hostile, targets)

    assert len(told) > 12
    assert _names(told) == set()
    assert world.host.told[before:] == []


def test_a_neighbour(hostile: MicroVM, neighbour: Neighbour, world: World):
    neighbour.vm.exec(_SERVES, check=True)
    eventually(lambda: neighbour.vm.exec(f"python3 -c '{_SELF}'").ok)
    links = world.addresses_of_links()

    told = _reached(hostile, [(one, LISTENING) for one in (*links, GATEWAY_4, GATEWAY_6, GUEST_4)])

    assert len(links) > 3
    assert _names(told) == set()


def test_metadata_needs_a_token_and_tells_nothing_of_the_host(
    hostile: MicroVM, neighbour: Neighbour, world: World
):
    before = len(world.outside.told)
    told = json.loads(hostile.exec(["python3", "-c", METADATA], check=True).stdout)
    refused = {name: status for name, (status, _) in told.items() if name != "right"}

    assert refused == {
        "no token": 401, "wrong token": 401, "token without a life": 400,
        "token through a proxy": 403, "token by GET": 405, "of the host": 404,
    }  # fmt: skip
    assert told["right"] == [200, hostile.id]
    assert [one for one in world.outside.told[before:] if one["to"] in CLOUDS] == []


def test_an_allow_list_opens_what_it_names(ek: Emberkeep, neighbour: Neighbour):
    allowed = f"{PRIVATE[0]}:{PORT}/tcp"
    with ek.launch(IMAGE, name="listed", egress=[allowed]) as vm:
        listed = _reached(vm, [(one, PORT) for one in (*PRIVATE, *CLOUDS, PUBLIC)])
    with ek.launch(IMAGE, name="alone", egress="none") as vm:
        alone = _reached(vm, [(one, PORT) for one in (*PRIVATE, *CLOUDS, PUBLIC, PUBLIC_6)])

    assert _names(listed) == {f"{PRIVATE[0]}:{PORT}"}
    assert _names(alone) == set()


@pytest.mark.parametrize(
    ("target", "mine", "others"),
    [
        (PUBLIC, GUEST_4, [GATEWAY_4, "10.213.0.3", *HOST[:2], PUBLIC, "127.0.0.1", "7.7.9.9"]),
        (PUBLIC_6, GUEST_6, [GATEWAY_6, "fd65:6d62:6572::3", HOST[2], PUBLIC_6, "2a07:9999::1"]),
    ],
)
def test_addresses_of_others(
    hostile: MicroVM, neighbour: Neighbour, world: World, target: str, mine: str, others: list[str]
):
    wrong = [[one, GUEST_MAC, f"spoofed {one}"] for one in others]
    frames = [*wrong, [mine, "02:ee:00:00:00:99", "spoofed mac"], [mine, GUEST_MAC, "mine"]]

    hostile.exec(["python3", "-c", SPOOF, target, str(PORT), json.dumps(frames)], check=True)
    eventually(lambda: _datagrams(world, "mine", target))

    assert _datagrams(world, "spoofed", target) == []
    assert {one["from"] for one in _datagrams(world, "mine", target)} <= {HOST[0], HOST[2]}


_SELF = f'import socket; socket.create_connection(("127.0.0.1", {LISTENING}), 5)'


def _reached(vm: MicroVM, targets: Sequence[tuple[str, int]]) -> dict[str, str]:
    done = vm.exec(["python3", "-c", REACH, json.dumps([*targets])], check=True)
    told: dict[str, str] = json.loads(done.stdout)
    assert len(told) == len({*targets})
    return told


def _names(told: dict[str, str]) -> set[str]:
    """Return what was reached, but for the guest itself."""
    mine = ("127.0.0.1:", "::1:")
    return {
        name for name, how in told.items()
        if how.startswith("reached") and not name.startswith(mine)
    }  # fmt: skip


def _datagrams(world: World, words: str, target: str) -> list[dict[str, str]]:
    ours = [one for one in world.outside.told if one["by"] == "udp" and ":" in one["from"]]
    four = [one for one in world.outside.told if one["by"] == "udp" and ":" not in one["from"]]
    return [one for one in (ours if ":" in target else four) if one["said"].startswith(words)]
