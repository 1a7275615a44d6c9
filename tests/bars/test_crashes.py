"""Bar 2: the server and VMMs are killed while all is in motion; the next start shows the truth."""

import os
import random
import time
from pathlib import Path
from typing import Final

import pytest

from emberkeep.base import proc
from emberkeep_sdk import Emberkeep, EmberkeepError, MicroVM
from tests.bars import footprint
from tests.bars.footprint import Host
from tests.bars.knobs import Figures, number
from tests.bars.servers import IMAGE, BarServer, kill
from tests.bars.storm import GONE, Account, Client, Ledger, content
from tests.vm.servers import eventually

pytestmark = [pytest.mark.bars, pytest.mark.timeout(7200)]

STABLE: Final = {"RUNNING", "SUSPENDED", "TERMINATED"}
KINDS: Final = (
    "server", "server", "server", "vmm then server", "vmm and server", "server then vmm",
    "server, twice",
)  # fmt: skip


def test_after_a_crash_the_next_start_shows_the_truth_and_leaves_nothing(
    server: BarServer, figures: Figures
):
    proc.adopt_orphans()  # so that VMMs whose server was killed do not stay behind as zombies
    bar = _Crashes(server, random.Random(number("SEED", 1)))  # noqa: S311  the bar's own
    _warm(server, killed=number("CRASHES", 30) > 1)
    for count in range(number("CRASHES", 30)):
        kind = KINDS[count % len(KINDS)]
        bar.crash(kind)
        bar.judge(f"crash {count} ({kind})", every=False)
        figures(f"crash {count} {kind}", up_s=bar.up_s[-1], **bar.counts())
    bar.judge("at the end", every=True)
    figures("crashes", kills=number("CRASHES", 30), vmms_killed=bar.vmms_killed,
            up_s_max=max(bar.up_s), acknowledged=bar.ledger.done, checked=bar.checked,
            outcomes=bar.outcomes)  # fmt: skip

    assert bar.checked >= number("CRASHES", 30) / 2, "hardly anything was at stake"


def _warm(server: BarServer, *, killed: bool) -> None:
    """Have the image's snapshot made, at the second try; launches are then a matter of a second."""
    if killed:
        with server.client() as ek:
            first = Client("early", ek, Ledger(), 0)
            first.start()
            time.sleep(3)
            server.kill()
            first.join(60)
        server.up()
        with server.client() as ek:  # where there was a snapshot already, the launch was quick
            for vm in ek.list():
                vm.terminate()
        eventually(lambda: footprint.unexplained(server, Host(), {}) == [])  # it still makes slots
    with server.client() as ek, ek.launch(IMAGE, name="warm") as vm:
        assert vm.exec(["true"]).ok


class _Crashes:
    """One server, its clients, and what must be true of both."""

    def __init__(self, server: BarServer, chance: random.Random) -> None:
        self.server, self.chance = server, chance
        self.ledger = Ledger()
        self.host = Host()
        self.vmms_killed = 0
        self.checked = 0
        self.outcomes: dict[str, int] = {}
        self.up_s: list[float] = []

    def crash(self, kind: str) -> None:
        """Let the clients loose, kill, wait for them, start again."""
        with self.server.client() as ek:
            clients = [
                Client(f"c{n}", ek, self.ledger, self.chance.randrange(1 << 30))
                for n in range(number("CLIENTS", 3))
            ]
            for client in clients:
                client.start()
            time.sleep(self.chance.uniform(0.3, number("STORM_S", 6)))
            self._kill(kind)
            for client in clients:
                client.stop.set()
                client.join(120)
                assert not client.is_alive(), f"client {client.name} hangs"
        if kind == "server, twice":
            self.server.killed_while_starting(self.chance.uniform(0.3, 3.0))
        begun = time.monotonic()
        self.server.up()
        self.up_s.append(time.monotonic() - begun)

    def judge(self, when: str, *, every: bool) -> None:
        """Compare what is there with what was acknowledged."""
        with self.server.client() as ek:
            found = self._settled(ek)
            wrong = [*self.ledger.wrong]
            for account in list(self.ledger.accounts.values()):
                wrong += self._compared(ek, account, found.get(account.name), every=every)
            states = {
                vm.id: vm.state for vm in self._settled(ek).values()
                if vm.state != "TERMINATED"
            }  # fmt: skip
            names = {vm.name for vm in found.values() if vm.state != "TERMINATED"}
            wrong += [f"{name} is known to nobody" for name in names - self.ledger.accounts.keys()]
        footprint.reap()
        wrong += self._left_over(states)

        self.ledger.killed.clear()  # what a kill excuses has been judged
        assert wrong == [], f"{when}:\n" + "\n".join(wrong) + f"\n{self.server.tail()}"

    def counts(self) -> dict[str, int]:
        """Say how many microVMs are in which state."""
        states = [account.state for account in self.ledger.accounts.values()]
        return {state: states.count(state) for state in sorted(set(states))}

    def _kill(self, kind: str) -> None:
        if kind.startswith("vmm"):
            self._kill_vmms()
        if kind == "vmm then server":
            time.sleep(self.chance.uniform(0, 2))
        self.server.kill()
        if kind.endswith("then vmm"):
            self._kill_vmms()

    def _kill_vmms(self) -> None:
        pids = self.server.vmms()
        for pid in self.chance.sample(pids, min(len(pids), self.chance.choice([1, 2]))):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            mark = next((word for word in words if word.startswith(b"emberkeep:")), b"")
            name = mark.decode().partition(",")[0].rpartition(":")[2]
            self.ledger.killed |= {name}
            self.ledger.killed |= {
                one.name for one in self.ledger.accounts.values() if one.doing == "launch"
            }
            kill(pid)
            self.vmms_killed += 1

    def _settled(self, ek: Emberkeep) -> dict[str, MicroVM]:
        """Wait until nothing is on its way any more; return all microVMs by name."""
        deadline = time.monotonic() + 120
        while True:
            found = {vm.name: vm for vm in ek.list(everything=True)}
            moving = [vm for vm in found.values() if vm.state not in STABLE]
            if not moving:
                return found
            assert time.monotonic() < deadline, f"still on their way: {moving}"
            time.sleep(0.2)

    def _compared(
        self, ek: Emberkeep, account: Account, vm: MicroVM | None, *, every: bool
    ) -> list[str]:
        state = vm.state if vm else GONE
        killed = {account.id, account.name, vm.id if vm else ""} & self.ledger.killed
        allowed = account.allowed | ({"TERMINATED", "SUSPENDED"} if killed else set())
        key = f"{account.doing or account.state}{' killed' if killed else ''} → {state}"
        self.outcomes[key] = self.outcomes.get(key, 0) + 1
        if state not in allowed:
            return [f"{account} is {state} ({vm.facts.state_reason if vm else ''})"]
        if vm is None or state == "TERMINATED":
            del self.ledger.accounts[account.name]
            if vm is not None and not vm.facts.state_reason:
                return [f"{account} is TERMINATED without a reason"]
            return []
        account.id, account.state, account.doing = vm.id, state, ""
        return self._looked_into(account, vm, every=every)

    def _looked_into(self, account: Account, vm: MicroVM, *, every: bool) -> list[str]:
        """Read the file of a microVM that must have it; suspended ones are resumed now and then."""
        if account.state == "SUSPENDED" and not (every or self.chance.random() < 0.5):
            return []
        try:
            if account.state == "SUSPENDED":
                vm.resume()
                account.state = "RUNNING"
            found = _patiently(vm)
        except EmberkeepError as error:
            return [f"{account} does not answer: {error!r}"]
        self.checked += 1
        if found not in account.contents:
            return [f"{account} holds {found}"]
        account.written, account.writing = found, None
        return []

    def _left_over(self, states: dict[str, str]) -> list[str]:
        """Look for what nobody explains; what ends by itself in a moment is no leftover."""
        deadline = time.monotonic() + 10
        while found := footprint.unexplained(self.server, self.host, states):
            if time.monotonic() > deadline:
                return found
            time.sleep(0.3)
        return []


def _patiently(vm: MicroVM) -> int:
    """Read the file; right behind a start the agent may have to be reached again first."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return content(vm)
        except EmberkeepError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def test_only_root_sees_all_of_the_host() -> None:
    """Say so where namespaces of others could not be compared."""
    if os.geteuid() != 0:
        pytest.skip("leftovers of other users' processes were not looked for")
