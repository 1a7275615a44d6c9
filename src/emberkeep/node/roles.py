"""The credentials of execution roles: obtained once for all microVMs that have the role."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from emberkeep.base import proc
from emberkeep.base.clock import Clock
from emberkeep.domain.errors import EmberkeepError, NotFound, Unavailable
from emberkeep.domain.roles import Credentials, Role, fixed, printed

_COMMAND_S: Final = 30.0
_AFTER_FAILURE_S: Final = 20.0  # nobody waits for a command that has just failed


class Roles:
    """What is configured under `[roles]`."""

    def __init__(self, roles: Mapping[str, Role], clock: Clock) -> None:
        self._roles = roles
        self._clock = clock
        self._obtained: dict[str, Credentials] = {}
        self._failed: dict[str, tuple[float, EmberkeepError]] = {}  # until when, why
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return self._clock.wall_ns() / 1e9

    def configured(self, role: str, account: str) -> str | None:
        """Return under which name `role`, a name or an ARN, is configured; None: it is not.

        A name is always looked for: whoever writes one means what is configured for the account.
        """
        name = role.rpartition("/")[2]
        found = self._of(name, account) is not None
        return name if found or not role.startswith("arn:") else None

    async def credentials(self, name: str, account: str) -> Credentials:
        """Return valid credentials of a role that microVMs of `account` may have.

        Raises `NotFound` if there is no such role, `Unavailable` if its command fails or what it
        gave has expired.
        """
        role = self._of(name, account)
        if role is None:
            known = (
                ", ".join(sorted(one for one in self._roles if self._of(one, account))) or "none"
            )
            raise NotFound(
                f"there is no role {name[:80]!r}", hint=f"configured under [roles]: {known}"
            )
        async with self._turns[name]:
            now = self.now()
            held = self._obtained.get(name)
            if held is None or held.due(now):
                try:
                    held = await self._renewed(name, role, now)
                except EmberkeepError:
                    if held is None or held.expires_at <= now:
                        raise
            if held.expires_at <= now:
                raise Unavailable(
                    f"the credentials of role {name!r} have expired",
                    hint=f"give it new ones in emberkeep.toml: roles.{name}",
                )
            return held

    def _of(self, name: str, account: str) -> Role | None:
        role = self._roles.get(name)
        return role if role is not None and account in role.accounts else None

    async def _renewed(self, name: str, role: Role, now: float) -> Credentials:
        until, why = self._failed.get(name, (0.0, None))
        if why is not None and now < until:
            raise why
        try:
            new = self._obtained[name] = await _new(name, role, now)
        except EmberkeepError as error:
            self._failed[name] = (self._clock.wall_ns() / 1e9 + _AFTER_FAILURE_S, error)
            raise
        self._failed.pop(name, None)
        return new


async def _new(name: str, role: Role, now: float) -> Credentials:
    if not role.command:
        return fixed(role, now)
    try:
        done = await proc.arun(role.command, timeout=_COMMAND_S)
    except (OSError, TimeoutError) as error:
        raise Unavailable(
            f"the command of role {name!r} cannot be run: {error}", hint=f"see roles.{name}.command"
        ) from error
    if not done.ok:
        raise Unavailable(
            f"the command of role {name!r} ended with status {done.code}:"
            f" {done.stderr.strip()[-200:]}",
            hint=f"see roles.{name}.command",
        )
    try:
        return printed(done.stdout, now)
    except EmberkeepError as error:
        raise Unavailable(f"role {name!r}: {error.message}", hint=error.hint) from error
