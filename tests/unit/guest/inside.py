"""Runs the agent in namespaces of this machine instead of a microVM; its port is a unix socket.

Started by `conftest.house` as PID 1 of a PID namespace; everything ends with it.
"""

# ruff: noqa: ASYNC230, BLE001, PTH101, PTH123, S103, T201, TID251

import asyncio
import os
import socket
import subprocess
import sys

from emberkeep_guest import container, init
from emberkeep_guest.addresses import API_PORT
from emberkeep_guest.agent import Agent
from emberkeep_guest.clock import Clock
from emberkeep_guest.console import Console
from emberkeep_guest.freezer import Freezer
from emberkeep_guest.metadata import bound
from emberkeep_guest.places import Places
from emberkeep_guest.reaper import Reaper
from emberkeep_guest.server import hold_session


class SocketTransport:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    async def read(self, most: int, /) -> bytes:
        try:
            return await asyncio.get_running_loop().sock_recv(self._connection, most)
        except ConnectionError:
            return b""

    async def write(self, data: bytes, /) -> None:
        await asyncio.get_running_loop().sock_sendall(self._connection, data)

    def close(self) -> None:
        self._connection.close()


CRUN = """#!/usr/bin/python3
# Runs crun; without the right to lock memory it cannot load a device filter, so not with one.
import json, os, resource, sys
bundle = next(it for it in sys.argv if it.startswith("--bundle=")).partition("=")[2]
if resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] != resource.RLIM_INFINITY:
    with open(bundle + "/config.json") as file:
        config = json.load(file)
    del config["linux"]["resources"]["devices"]
    with open(bundle + "/config.json", "w") as file:
        json.dump(config, file)
os.execv("/usr/bin/crun", sys.argv)
"""


class OwnClock(Clock):
    """A wall clock of its own: the real one is the machine's."""

    def __init__(self) -> None:
        self._ahead = 0

    def set_wall(self, wall_ns: int) -> None:
        self._ahead = wall_ns - super().read()["wall_ns"]

    def read(self) -> dict[str, int]:
        now = super().read()
        return {**now, "wall_ns": now["wall_ns"] + self._ahead}


def build(home: str, config: str) -> Places:
    """Make the file systems that the initramfs would have made."""
    shell = f"""
        set -e
        mount --make-rprivate /
        mount -t tmpfs house {home}
        mkdir {home}/upper {home}/work {home}/root {home}/own {home}/bundle
        mount -t tmpfs -o size=1m,mode=755 own {home}/own
        mount -t overlay -o lowerdir=/,upperdir={home}/upper,workdir={home}/work o {home}/root
        umount -R /sys/fs/cgroup
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        mkdir /sys/fs/cgroup/agent
        echo 1 > /sys/fs/cgroup/agent/cgroup.procs
        : > {home}/console
        hostname emberkeep
        ip address add 10.9.9.1/32 dev lo
    """
    subprocess.run(["sh", "-c", shell], check=True)
    if config:
        with open(f"{home}/config.json", "w") as file:
            file.write(config)
    with open(f"{home}/crun.py", "w") as file:
        file.write(CRUN)
    os.chmod(f"{home}/crun.py", 0o755)
    return Places(
        root=f"{home}/root",
        base=f"{home}/root",
        config=f"{home}/config.json",
        own=f"{home}/own",
        bundle=f"{home}/bundle",
        crun=f"{home}/crun.py",
        crun_state=f"{home}/crun",
        init="/usr/bin/catatonit",
        console=f"{home}/console",
    )


async def run(places: Places, listener: socket.socket) -> None:
    reaper = Reaper(everything=True)
    reaper.install(asyncio.get_running_loop())
    console = Console(places.console)
    try:
        workload = await container.start(places, reaper, console)
    except container.NotStarted:
        await asyncio.sleep(0.2)
        with open(places.console) as file:
            sys.stderr.write(file.read())
        raise
    freezer = Freezer(places.cgroup)
    agent = Agent(places, workload, freezer, reaper=reaper, console=console, clock=OwnClock())
    agent.gateway = bound(("127.0.0.1", API_PORT))
    container.confine_agent(workload)
    print("ready", flush=True)
    while True:
        connection, _ = await asyncio.get_running_loop().sock_accept(listener)
        connection.setblocking(False)
        try:
            await hold_session(agent, SocketTransport(connection))
        except Exception as error:
            print(f"session: {error!r}", file=sys.stderr, flush=True)
        connection.close()


def main() -> None:
    home, config = sys.argv[1:]
    os.umask(0o022)
    listener = socket.socket(fileno=0)
    listener.setblocking(False)
    places = build(home, config)
    init._loopback_up()
    asyncio.run(run(places, listener))


if __name__ == "__main__":
    main()
