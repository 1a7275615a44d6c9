"""MicroVMs of one account, in pages and by the tokens of its clients."""

from sqlalchemy import and_, or_, select

from emberkeep.domain.microvms import MicroVM
from emberkeep.domain.requests import Which
from emberkeep.store.microvms import from_row
from emberkeep.store.schema import microvms
from emberkeep.store.transactions import Database


class Listing:
    """`domain.ports.MicroVMListing` over a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        account: str,
        *,
        before: tuple[float, str] | None,
        limit: int,
        which: Which | None = None,
    ) -> list[MicroVM]:
        """Return the newest `limit` microVMs of an account that came before (time, id)."""
        mine = [microvms.c.account == account]
        if before is not None:
            at, microvm_id = before
            older = microvms.c.created_at < at
            same = and_(microvms.c.created_at == at, microvms.c.id < microvm_id)
            mine.append(or_(older, same))
        if which is not None and which.image is not None:
            mine.append(microvms.c.image == which.image)
            mine.append(microvms.c.image_version.is_(None) == which.base)
        if which is not None and which.version is not None:
            mine.append(microvms.c.image_version == which.version)
        newest = (microvms.c.created_at.desc(), microvms.c.id.desc())
        found = select(microvms).where(*mine).order_by(*newest).limit(limit)
        return [from_row(row) for row in (await self._database.read(found)).mappings()]

    async def find(self, account: str, microvm_id: str) -> MicroVM | None:
        """Return one by its whole id, if there is one."""
        its = and_(microvms.c.account == account, microvms.c.id == microvm_id)
        for row in (await self._database.read(select(microvms).where(its))).mappings():
            return from_row(row)
        return None

    async def with_token(self, account: str, token: str) -> MicroVM | None:
        """Return the microVM that a client's token has led to, as long as its row is kept."""
        its = and_(microvms.c.account == account, microvms.c.client_token == token)
        for row in (await self._database.read(select(microvms).where(its))).mappings():
            return from_row(row)
        return None
