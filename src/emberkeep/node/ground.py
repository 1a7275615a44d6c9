"""What the verbs of a node work with."""

from dataclasses import dataclass

from emberkeep.base.clock import Clock
from emberkeep.domain.ports import Sources, UsageRecords
from emberkeep.network.slots import Slots
from emberkeep.node.berths import Berths
from emberkeep.node.gateway import Gateway
from emberkeep.node.images import Images
from emberkeep.node.layout import Layout
from emberkeep.node.limits import Admission
from emberkeep.node.logs import Logs
from emberkeep.node.metadata import Metadata
from emberkeep.node.meter import Meter
from emberkeep.node.registry import Registry
from emberkeep.node.running import Running
from emberkeep.node.settings import NodeSettings
from emberkeep.node.touched import Touched
from emberkeep.node.uids import Uids
from emberkeep.vmm.hypervisor import Hypervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """The things of one node, each in its place."""

    layout: Layout
    registry: Registry
    sources: Sources
    images: Images
    berths: Berths
    slots: Slots
    uids: Uids
    hypervisor: Hypervisor
    running: Running
    clock: Clock
    settings: NodeSettings
    admission: Admission
    metadata: Metadata
    touched: Touched
    logs: Logs
    gateway: Gateway
    meter: Meter
    usage: UsageRecords
    patience: float = 1  # hooks have so many times their timeouts
