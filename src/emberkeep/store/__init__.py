"""What is remembered over restarts and power losses: the ports of `domain` over SQL."""

from emberkeep.store.database import Stores, opened
from emberkeep.store.events import Events
from emberkeep.store.images import Images
from emberkeep.store.microvms import MicroVMs

__all__ = ["Events", "Images", "MicroVMs", "Stores", "opened"]
