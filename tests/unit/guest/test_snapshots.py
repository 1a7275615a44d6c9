"""What happens around a snapshot, sessions that end badly, ports, facts."""

# Paths in /tmp are the container's; what happens in it can only be looked for again and again.
# ruff: noqa: ASYNC110, PT012, S108

import asyncio
import base64
import os
import signal
import time
from typing import Any

import pytest

from emberkeep_guest.messages import receive_message, send_message
from emberkeep_guest.session import SessionClosed, StreamReset
from tests.unit.guest.conftest import Client, Failed, House, built, ended, everything, reply

IDENTITY = {
    "microvm_id": "microvm-0123",
    "hostname": "web-1",
    "machine_id": "0123456789abcdef" * 2,
    "boot_id": "01234567-89ab-cdef-0123-456789abcdef",
}
LISTENER = """
import socket, sys, threading
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2]))); s.listen(); print("up", flush=True)
def echo(c):
    while data := c.recv(65536): c.sendall(data)
    c.sendall(b"end"); c.close()
while True: threading.Thread(target=echo, args=s.accept()[:1], daemon=True).start()
"""


@pytest.fixture
def own_house():
    with built() as it:
        yield it


async def freeze(client: Client) -> None:
    await client.open("freeze")
    async with asyncio.timeout(5):
        while not client.session.closed:
            await asyncio.sleep(0.01)


def wake(**fields: Any) -> dict[str, Any]:
    entropy = base64.b64encode(os.urandom(64)).decode()
    return {"wall_ns": time.time_ns(), "entropy": entropy, "identity": None, **fields}


async def started(client: Client, *argv: str) -> None:
    stream, _ = await client.exec(*argv)
    assert b"up" in await stream.read()


async def test_the_workload_stands_still_between_freeze_and_thaw(own_house: House):
    counting = "i=0; while :; do i=$((i+1)); echo $i > /tmp/new; mv /tmp/new /tmp/i; done"
    async with own_house.client() as client:
        await client.exec("sh", "-c", counting)
        await asyncio.sleep(0.2)
    async with own_house.client() as client:
        await freeze(client)
    async with own_house.client() as client:
        first = await client.read("/tmp/i")
        await asyncio.sleep(0.2)
        second = await client.read("/tmp/i")
        status = await client.call("status")
        with pytest.raises(Failed) as refused:
            await client.exec("true")
        with pytest.raises(Failed):
            await client.open("pack", path="/etc")
        await client.call("wake", **wake())
        await client.call("thaw", wall_ns=time.time_ns())
        await asyncio.sleep(0.2)
        third = await client.read("/tmp/i")
        after = await client.call("status")

    assert first == second != third
    assert (status["workload"], status["frozen"]) == ("frozen", True)
    assert (after["workload"], after["frozen"]) == ("running", False)
    assert refused.value.kind == "refused"


@pytest.mark.parametrize(("base", "said"), [(True, b"x\n"), (False, b"version")])
async def test_a_rehearsal_leaves_the_workload_alone(own_house: House, *, base: bool, said: bytes):
    async with own_house.client() as client:
        with pytest.raises(Failed) as refused:
            await client.open("rehearse", base=base)
        await freeze(client)
    async with own_house.client() as client:
        stream, _ = await client.open("rehearse", base=base)
        done = await ended(stream)
        status = await client.call("status")

    assert refused.value.kind == "refused"
    assert (done.code, said in done.out) == (0, True)
    assert status["frozen"]


async def test_nothing_is_written_to_the_disk_while_it_is_frozen(own_house: House):
    async with own_house.client() as client:
        await client.call("mkdir", path="/srv/frozen")
        upload, _ = await client.open("write", path="/srv/frozen/x")
        await upload.write(b"half")
        await freeze(client)
    async with own_house.client() as client:
        during = (await client.call("list", path="/srv/frozen"))["entries"]
        for op, fields in {
            "write": {"path": "/srv/frozen/y"},
            "mkdir": {"path": "/srv/frozen/y"},
            "remove": {"path": "/srv/frozen", "recursive": True},
            "move": {"path": "/srv/frozen", "to": "/srv/y"},
            "unpack": {"path": "/srv/frozen"},
        }.items():
            with pytest.raises(Failed) as refused:
                await client.call(op, **fields)
            assert refused.value.kind == "refused"
        await client.call("thaw", wall_ns=time.time_ns())
        after = (await client.call("list", path="/srv/frozen"))["entries"]

    assert len(during) == 1
    assert after == []


async def test_a_launch_gives_a_new_identity_and_a_resume_keeps_it(own_house: House):
    show = "hostname; cat /etc/hostname /etc/machine-id /proc/sys/kernel/random/boot_id /etc/hosts"
    async with own_house.client() as client:
        await client.run("sh", "-c", "yes > /etc/hosts; chmod 0 /etc/hostname")
    async with own_house.client() as client:
        await freeze(client)
    async with own_house.client() as client:
        await client.call("wake", **wake(identity=IDENTITY))
        await client.call("thaw", wall_ns=time.time_ns())
        launched = await client.run("sh", "-c", show)
        name = await client.run("sh", "-c", "echo $HOSTNAME")
    async with own_house.client() as client:
        await freeze(client)
    async with own_house.client() as client:
        await client.call("wake", **wake())
        await client.call("thaw", wall_ns=time.time_ns())
        resumed = await client.run("sh", "-c", show)
        status = await client.call("status")

    assert launched.out.decode().splitlines()[:4] == [
        "web-1", "web-1", IDENTITY["machine_id"], IDENTITY["boot_id"],
    ]  # fmt: skip
    assert b"127.0.0.1\tlocalhost web-1\n" in launched.out
    assert name.out == b"web-1\n"
    assert resumed.out == launched.out
    assert status["microvm_id"] == "microvm-0123"


async def test_the_clock(own_house: House):
    async with own_house.client() as client:
        first = await client.call("clock")
        second = await client.call("clock", wall_ns=10**18)
    async with own_house.client() as client:
        await freeze(client)
    async with own_house.client() as client:
        await client.call("wake", **wake(wall_ns=10**18))
        third = await client.call("thaw", wall_ns=2 * 10**18)

    assert abs(first["wall_ns"] - time.time_ns()) < 10**10
    assert 0 <= second["wall_ns"] - 10**18 < 10**9
    assert second["monotonic_ns"] > first["monotonic_ns"]
    assert 0 <= third["wall_ns"] - 2 * 10**18 < 10**9


@pytest.mark.parametrize(
    "fields",
    [
        {"entropy": "short"},
        {"entropy": "AAAA"},
        {"entropy": "!" * 100},
        {"wall_ns": -1},
        {"wall_ns": None},
        {"identity": {**IDENTITY, "hostname": "a b"}},
        {"identity": {**IDENTITY, "machine_id": "x"}},
        {"identity": {**IDENTITY, "boot_id": "x\n"}},
        {"identity": {}},
        {"identity": 5},
    ],
)
async def test_a_wake_that_makes_no_sense_changes_nothing(own_house: House, fields):
    async with own_house.client() as client:
        await freeze(client)
    async with own_house.client() as client:
        before = await client.call("clock")
        with pytest.raises(Failed) as failure:
            await client.call("wake", **{**wake(wall_ns=10**18), **fields})
        after = await client.call("clock")
        status = await client.call("status")

    assert failure.value.kind == "invalid"
    assert 0 <= after["wall_ns"] - before["wall_ns"] < 10**10
    assert (status["frozen"], status["microvm_id"]) == (True, "")


async def test_a_wake_of_a_running_workload_is_refused(house: House):
    async with house.client() as client:
        with pytest.raises(Failed) as failure:
            await client.call("wake", **wake())

    assert failure.value.kind == "refused"


async def test_commands_go_on_detached_and_connections_end(own_house: House):
    async with own_house.client() as client:
        await started(client, "python3", "-u", "-c", LISTENER, "127.0.0.1", "901")
        talker, _ = await client.exec(
            "sh", "-c", "while :; do echo x; echo $? > /tmp/new; mv /tmp/new /tmp/status; done"
        )
        await client.exec("sleep", "710", tty={"rows": 24, "cols": 80})
        connection, _ = await client.open("connect", port=901)
        await connection.write(b"x")
        assert await connection.read() == b"x"
        freezing = client.session.open()
        await send_message(freezing, {"op": "freeze"})
        with pytest.raises(SessionClosed):
            while await talker.read(1 << 20):
                pass
        with pytest.raises(SessionClosed):
            await connection.read()
    async with own_house.client() as client:
        await client.call("thaw", wall_ns=time.time_ns())
        await asyncio.sleep(0.3)
        running = [it["command"] for it in (await client.call("processes"))["processes"]]
        assert await client.read("/tmp/status") == b"0\n"

    assert any("echo x" in it for it in running)
    assert "sleep 710" not in running


async def test_outbound_connections_are_gone_after_a_restore(own_house: House):
    script = """
import socket, time
def pair(host):
    s = socket.create_server((host, 0)); c = socket.create_connection(s.getsockname())
    return c, s.accept()[0]
pairs = [pair(it) for it in ("127.0.0.1", "10.9.9.1")]
print("up", flush=True)
while not __import__("os").path.exists("/tmp/go"): time.sleep(0.01)
for a, b in pairs:
    try:
        a.send(b"x"); a.setblocking(False); b.send(b"y"); time.sleep(0.05)
        print(a.recv(1), flush=True)
    except OSError as e: print(type(e).__name__, flush=True)
"""
    async with own_house.client() as client:
        await client.write("/tmp/script", script.encode())
        await started(client, "sh", "-c", "python3 /tmp/script > /tmp/out & sleep 1; cat /tmp/out")
    async with own_house.client() as client:
        await freeze(client)
    async with own_house.client() as client:
        await client.call("wake", **wake())
        await client.call("thaw", wall_ns=time.time_ns())
        await client.write("/tmp/go", b"")
        async with asyncio.timeout(5):
            while (out := await client.read("/tmp/out")).count(b"\n") < 3:
                await asyncio.sleep(0.02)

    assert out.split()[:2] == [b"up", b"b'y'"]
    assert out.split()[2] in (b"ConnectionAbortedError", b"ConnectionResetError")


async def test_a_connection_carries_both_ways_and_ends_each_by_itself(house: House):
    data = os.urandom(2_000_000)
    async with house.client() as client:
        await started(client, "python3", "-u", "-c", LISTENER, "127.0.0.1", "902")
        stream, _ = await client.open("connect", port=902)

        async def send() -> None:
            await stream.write(data, eof=True)

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            echoed = group.create_task(everything(stream))

    assert echoed.result() == data + b"end"


async def test_a_listener_on_ipv6_is_found(house: House):
    async with house.client() as client:
        await started(client, "python3", "-u", "-c", LISTENER, "::1", "903")
        stream, _ = await client.open("connect", port=903)
        await stream.write(b"x", eof=True)
        assert await everything(stream) == b"xend"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("refused", {"port": 904}),
        ("invalid", {"port": 0}),
        ("invalid", {"port": 70000}),
        ("invalid", {"port": True}),
        ("invalid", {"port": 80, "host": "localhost"}),
        ("invalid", {"port": 80, "host": "1.2.3.4; x"}),
    ],
)
async def test_a_connection_that_cannot_be(house: House, kind, fields):
    async with house.client() as client:
        with pytest.raises(Failed) as failure:
            await client.open("connect", **fields)
    assert failure.value.kind == kind


async def test_processes_and_signals(house: House):
    async with house.client() as client:
        stream, pid = await client.exec("sleep", "711", user="daemon")
        found = {it["pid"]: it for it in (await client.call("processes"))["processes"]}
        await client.call("signal", pid=pid, signal=signal.SIGTERM, group=False)
        await everything(stream)
        with pytest.raises(Failed) as failure:
            await client.call("signal", pid=pid, signal=signal.SIGTERM, group=False)

    assert found[1]["command"] == "/.emberkeep/init -P"
    assert found[pid]["command"] == "sleep 711"
    assert found[pid]["user"] == "daemon"
    assert found[pid]["state"] in "RS"
    assert found[pid]["rss_bytes"] >= 0
    assert failure.value.kind == "not_found"


async def test_metrics(house: House):
    async with house.client() as client:
        found = await client.call("metrics")

    assert found["memory"]["total"] > found["memory"]["available"] > 0
    assert found["cpu"]["count"] >= 1
    assert found["disk"]["total"] > found["disk"]["free"] > 0
    assert found["uptime_s"] > 0


async def test_sessions_that_end_anywhere_leave_the_agent_well(house: House):
    for number in range(30):
        async with house.client() as client:
            stream = client.session.open()
            await stream.write(b"\0\0\0\x30" + b'{"op":"list","path":"/etc"}'[:number])
            if number % 3 == 0:
                await client.exec("head", "-c", "500000", "/dev/zero")
    async with house.client() as client:
        assert (await client.run("echo", "well")).out == b"well\n"


async def test_messages_that_are_none(house: House):
    async with house.client() as client:
        for text in (b"", b"\xff\xff\xff\xff", b"\0\0\0\4null", b"\0\0\0\2{}", b"\0\0\0\5hello"):
            stream = client.session.open()
            await stream.write(text, eof=True)
            with pytest.raises(Failed) as failure:
                reply(await receive_message(stream))
            assert failure.value.kind == "invalid"


async def test_the_end_of_the_workload(own_house: House):
    async with own_house.client() as client:
        stream, _ = await client.exec("sleep", "712")
        await client.call("signal", pid=1, signal=9, group=False)
        with pytest.raises((StreamReset, AssertionError)):
            while data := await stream.read():
                assert b"exit" not in data
        async with asyncio.timeout(5):
            while (status := await client.call("status"))["workload"] != "exited":
                await asyncio.sleep(0.02)
        with pytest.raises(Failed):
            await client.call("list", path="/proc/1")

    assert status["exit_code"] == 137
