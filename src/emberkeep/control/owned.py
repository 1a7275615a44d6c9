"""The microVMs of one account: what is another's is not there."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from emberkeep.domain.errors import NotFound
from emberkeep.domain.events import Event
from emberkeep.domain.limits import LimitFacts
from emberkeep.domain.logs import LogLine, LogName
from emberkeep.domain.microvms import MicroVM
from emberkeep.domain.ports import AgentPort, NodePort
from emberkeep.domain.requests import ImageFacts, LaunchRequest, PoolFacts
from emberkeep.domain.usage import Usage


class Owned:
    """A node as an account sees it; references are resolved among its own."""

    def __init__(self, node: NodePort, account: str) -> None:
        self._node = node
        self.account = account

    async def launch(self, request: LaunchRequest) -> MicroVM:
        """Launch a microVM; the request must be the account's."""
        return await self._node.launch(self._checked(request))

    async def suspend(self, ref: str) -> MicroVM:
        """Suspend one."""
        return await self._node.suspend(await self._id(ref))

    async def resume(self, ref: str) -> MicroVM:
        """Resume one."""
        return await self._node.resume(await self._id(ref))

    async def terminate(self, ref: str) -> MicroVM:
        """Terminate one."""
        return await self._node.terminate(await self._id(ref))

    async def show(self, ref: str) -> MicroVM:
        """Return one."""
        return await self._node.find(ref, self.account)

    async def list(self, *, everything: bool = False) -> Sequence[MicroVM]:
        """Return those there are."""
        found = await self._node.list(everything=everything)
        return [vm for vm in found if vm.account == self.account]

    async def console(self, ref: str) -> bytes:
        """Return what is kept of the serial console."""
        return await self._node.console(await self._id(ref))

    async def images(self) -> Sequence[ImageFacts]:
        """Describe the base images, which are everybody's."""
        return await self._node.images()

    async def facts(self, ref: str) -> Mapping[str, object]:
        """Describe one."""
        return await self._node.facts(await self._id(ref))

    def ready(self) -> Sequence[PoolFacts]:
        """Say what is ready before anybody asks."""
        return self._node.ready()

    def limits(self) -> LimitFacts:
        """Return what the account and this host may have."""
        return self._node.limits(self.account)

    async def timeline(self, ref: str) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """Return where the time of its verbs went."""
        return await self._node.timeline(await self._id(ref))

    async def events(
        self, ref: str | None = None, *, after: int | None = None, limit: int
    ) -> Sequence[Event]:
        """Return events of the account, or of one microVM of it."""
        return await self._node.events(
            None if ref is None else await self._id(ref),
            after=after,
            limit=limit,
            account=self.account,
        )

    async def follow(
        self, ref: str | None = None, *, after: int | None = None
    ) -> AsyncGenerator[Event]:
        """Yield them as they happen."""
        one = None if ref is None else await self._id(ref)
        async with aclosing(self._node.follow(one, after=after)) as happening:
            async for event in happening:
                if event.account == self.account:
                    yield event

    async def logs(
        self, ref: str, *, after: int | None = None, limit: int
    ) -> tuple[LogName, Sequence[LogLine]]:
        """Return where a microVM's log is, and lines of it."""
        return await self._node.logs(await self._id(ref), after=after, limit=limit)

    async def follow_logs(self, ref: str, *, after: int | None = None) -> AsyncGenerator[LogLine]:
        """Yield the lines as they come."""
        lines = self._node.follow_logs(await self._id(ref), after=after)
        async with aclosing(lines):
            async for line in lines:
                yield line

    async def usage(self, first: str, last: str) -> Sequence[Usage]:
        """Return what the account has used."""
        return await self._node.usage(first, last, account=self.account)

    def agent(self, ref: str) -> AgentPort:
        """Return the live session of a RUNNING one."""
        return self._node.agent(self._node.meant(ref, self.account).id)

    async def _id(self, ref: str) -> str:
        return (await self.show(ref)).id

    def _checked(self, request: LaunchRequest) -> LaunchRequest:
        if request.account != self.account:
            raise NotFound("no such account")
        return request
