"""events: what has happened, as text, as JSON, and as it goes on."""

import json
import subprocess  # noqa: TID251  the command line as its users have it

from emberkeep.cli.events import line
from emberkeep_sdk import Emberkeep, Happening
from tests.unit.cli.conftest import Cli
from tests.unit.sdk.serving import KEY, Serving


def test_events_are_listed(cli: Cli, server: Serving):
    with Emberkeep(server.endpoint, api_key=KEY) as ek:
        ek.launch("debian-12", name="listed")

    shown = cli("events")
    written = cli("events", "listed", "--json", "-n", "1")

    assert shown.stdout.decode().splitlines()[-1].split()[2:] == ["launching", "listed"]
    assert json.loads(written.stdout)["name"] == "listed"


def test_events_can_be_followed(cli: Cli, server: Serving):
    with (
        Emberkeep(server.endpoint, api_key=KEY) as ek,
        cli.start("events", "-f", "--json", "-n", "1", stdout=subprocess.PIPE) as running,
    ):
        try:
            ek.launch("debian-12", name="one")
            names = [json.loads(running.stdout.readline())["name"]]
            if names == ["listed"]:  # it had begun before
                names = [json.loads(running.stdout.readline())["name"]]
            ek.launch("debian-12", name="two")
            names.append(json.loads(running.stdout.readline())["name"])
        finally:
            running.terminate()

    assert names == ["one", "two"]


def test_what_a_guest_made_us_write_moves_no_terminal():
    event = Happening(seq=1, at=0, kind="vmm-died", name="web", reason="it fell\x1b[31m over")

    assert line(event).endswith("vmm-died        web (it fell�[31m over)")
