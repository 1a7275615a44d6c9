"""What is remembered over restarts and power losses: the ports of `domain` over SQL."""

from emberkeep.store.database import opened
from emberkeep.store.microvms import MicroVMs

__all__ = ["MicroVMs", "opened"]
