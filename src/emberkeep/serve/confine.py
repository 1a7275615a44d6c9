"""What VMMs of this server will be confined by: made ready, and what is lacking said or refused."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from emberkeep.base import cgroups
from emberkeep.base.groups import Tree
from emberkeep.domain.confinement import cannot, told
from emberkeep.domain.errors import Unavailable
from emberkeep.node.uids import NONE, available
from emberkeep.vmm.cells import Cells
from emberkeep.vmm.settings import VmmSettings

_HINT: Final = "docs/confinement.md says how this host can have it; see: emberkeep doctor"
_log = structlog.get_logger()


@asynccontextmanager
async def confined(instance: str, settings: VmmSettings) -> AsyncGenerator[Cells]:
    """Give cells for VMMs for the length of the block.

    Raises `Unavailable` where a defence is required that this host does not have.
    """
    tree = Tree(cgroups.found(), f"emberkeep-{instance}")
    cells = Cells(tree, mark=f"emberkeep-jail:{instance}", cpu_weight=settings.cpu_weight)
    async with cells.open():
        lacking = cannot(
            tree.found.missing,
            second_user=available() is not NONE,
            throttled=bool(settings.io_mib_s or settings.io_ops_s),
        )
        if lacking and settings.require_confinement:
            raise Unavailable(
                f"vmm.require_confinement is set, and this host lacks: {told(lacking)}", hint=_HINT
            )
        for one in lacking:
            _log.warning("vmm.cannot_be_had", defence=one.name, why=one.detail, hint=_HINT)
        yield cells
