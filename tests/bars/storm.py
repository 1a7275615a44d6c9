"""Clients that use a server all at once, and the ledger of what it has acknowledged to them."""

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from emberkeep_sdk import ConnectionLost, Emberkeep, EmberkeepError, MicroVM, NotFound, Unreachable
from tests.bars.servers import IMAGE

_FILE: Final = "/var/tmp/acknowledged"  # noqa: S108  in the guest
_HELD: Final = 2  # microVMs that one client has at a time
GONE: Final = "never was"


@dataclass
class Account:
    """What one client knows of one microVM."""

    name: str
    state: str = GONE  # as acknowledged last
    doing: str = ""  # what was asked for and not answered
    written: int = -1  # the number in its file
    writing: int | None = None
    id: str = ""

    @property
    def allowed(self) -> set[str]:
        """Return the states that are true as far as anybody can know."""
        after = {
            "launch": {"RUNNING", "TERMINATED", GONE},
            "suspend": {"RUNNING", "SUSPENDED"},
            "resume": {"RUNNING", "SUSPENDED"},
            "terminate": {"TERMINATED"},
        }
        return {self.state} | after.get(self.doing, set())

    @property
    def contents(self) -> set[int]:
        """Return what its file may hold."""
        return {self.written} | ({self.writing} if self.writing is not None else set())


@dataclass
class Ledger:
    """All accounts, what was done, and what no crash explains."""

    accounts: dict[str, Account] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    killed: set[str] = field(default_factory=set)  # ids of microVMs whose VMM we have killed
    wrong: list[str] = field(default_factory=list)
    number: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def new(self, who: str) -> Account:
        """Open an account."""
        with self.lock:
            self.number += 1
            account = Account(f"{who}-{self.number}")
            self.accounts[account.name] = account
            return account

    def count(self, what: str) -> None:
        """Count what was acknowledged."""
        with self.lock:
            self.done[what] = self.done.get(what, 0) + 1


class Client(threading.Thread):
    """One client: does what comes to its mind with microVMs of its own, until it is stopped."""

    def __init__(self, who: str, ek: Emberkeep, ledger: Ledger, seed: int) -> None:
        super().__init__(name=who, daemon=True)
        self.who, self.ledger = who, ledger
        self.stop = threading.Event()
        self._ek = ek
        self._chance = random.Random(seed)  # noqa: S311  the bar's own

    def run(self) -> None:
        """Go on until the server is gone or `stop` is set."""
        while not self.stop.is_set():
            account = self._choice()
            try:
                self._step(account)
            except (ConnectionLost, Unreachable):
                return
            except EmberkeepError as error:
                if not self._excused(account, error):
                    return
            except Exception as error:  # noqa: BLE001  a killed server shows itself in many ways
                self.ledger.wrong.append(f"{self.who} {account}: {error!r}")
                return

    def _choice(self) -> Account:
        mine = [
            one
            for one in self.ledger.accounts.values()
            if one.name.startswith(self.who + "-") and one.state not in {"TERMINATED", GONE}
        ]
        if len(mine) < _HELD and (not mine or self._chance.random() < 0.4):
            return self.ledger.new(self.who)
        return self._chance.choice(mine)

    def _step(self, account: Account) -> None:
        if account.state == GONE:
            self._ask(account, "launch", lambda: self._launched(account))
            return
        vm = self._ek.get(account.id)
        if account.state == "SUSPENDED":
            verb = "terminate" if self._chance.random() < 0.15 else "resume"
        else:
            verb = self._chance.choice(
                ["write", "write", "read", "exec", "suspend", "suspend", "terminate"]
            )
        self._ask(account, verb, lambda: getattr(self, "_" + verb)(account, vm))

    def _ask(self, account: Account, verb: str, act: Callable[[], None]) -> None:
        account.doing = verb
        act()
        account.doing = ""
        self.ledger.count(verb)

    def _launched(self, account: Account) -> None:
        vm = self._ek.launch(IMAGE, name=account.name)
        account.id, account.state = vm.id, "RUNNING"

    def _suspend(self, account: Account, vm: MicroVM) -> None:
        vm.suspend()
        account.state = "SUSPENDED"

    def _resume(self, account: Account, vm: MicroVM) -> None:
        vm.resume()
        account.state = "RUNNING"

    def _terminate(self, account: Account, vm: MicroVM) -> None:
        vm.terminate()
        account.state = "TERMINATED"

    def _write(self, account: Account, vm: MicroVM) -> None:
        account.writing = account.written + 1
        vm.files.write(_FILE, str(account.writing))
        account.written, account.writing = account.writing, None

    def _read(self, account: Account, vm: MicroVM) -> None:
        found = content(vm)
        if found not in account.contents:
            self.ledger.wrong.append(f"{account} holds {found}")

    def _exec(self, account: Account, vm: MicroVM) -> None:
        text = vm.exec(["sh", "-c", "echo $((6*7))"], timeout=60).stdout
        if text != "42\n":
            self.ledger.wrong.append(f"{account} said {text!r}")

    def _excused(self, account: Account, error: EmberkeepError) -> bool:
        """See whether a VMM that we have killed explains the error; set the account right."""
        try:
            now = self._ek.get(account.id or account.name)
        except NotFound:
            account.state, account.doing = GONE, ""  # it ended before there was a record of it
            return account.name in self.ledger.killed and not account.id
        except EmberkeepError:
            return False
        account.id = now.id
        if now.id not in self.ledger.killed and now.name not in self.ledger.killed:
            self.ledger.wrong.append(f"{self.who} {account} ({now.state}): {error!r}")
            return False
        if now.state in {"RUNNING", "SUSPENDED", "TERMINATED"}:
            account.state, account.doing = now.state, ""
        return True


def content(vm: MicroVM) -> int:
    """Return the number in the file of a running microVM; -1 if it has none."""
    with suppress(NotFound):
        return int(vm.files.read_text(_FILE))
    return -1
