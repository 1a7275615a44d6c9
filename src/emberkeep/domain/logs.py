"""Where the output of a workload is written down, and what a line of it is (spec §10.1)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from emberkeep.domain.microvms import MicroVM

_GROUP: Final = "/aws/lambda-microvms"


@dataclass(frozen=True, slots=True, order=True)
class LogName:
    """A log stream, and the group it is in."""

    group: str
    stream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line that a workload has written, without its line break."""

    seq: int  # in its stream; never given again
    at: float  # when the host had it, in seconds since the epoch
    microvm_id: str
    text: str


def default_name(vm: MicroVM) -> LogName:
    """Return the log of `vm` where nobody has named another.

    The group is the image's; the stream says the day of the launch (UTC), the version, and the id.
    """
    day = datetime.fromtimestamp(vm.created_at, UTC).strftime("%Y/%m/%d")
    version = getattr(vm, "image_version", None)
    return LogName(f"{_GROUP}/{vm.image}", f"{day}[{version or 1}.0]{vm.id}")
