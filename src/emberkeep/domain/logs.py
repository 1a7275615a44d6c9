"""Where the output of a workload is written down, and what a line of it is (spec §10.1)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from emberkeep.domain.microvms import MicroVM

_GROUP: Final = "/aws/lambda-microvms"


@dataclass(frozen=True, slots=True, order=True)
class LogName:
    """A log stream, the group it is in, and whose it is: others may use the same names."""

    account: str
    group: str
    stream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line that a workload has written, without its line break."""

    seq: int  # in its stream; never given again
    at: float  # when the host had it, in seconds since the epoch
    microvm_id: str
    text: str


def log_of(vm: MicroVM) -> LogName | None:
    """Return the log of `vm`: as its launch names it, else as AWS would; None if it wants none.

    The group is then the image's; the stream has the day of the launch (UTC), the version, the id.
    """
    logging = vm.terms.logging or {}
    if "disabled" in logging:
        return None
    named = logging.get("cloudWatch") or {}
    day = datetime.fromtimestamp(vm.created_at, UTC).strftime("%Y/%m/%d")
    return LogName(
        vm.account,
        str(named.get("logGroup") or f"{_GROUP}/{vm.image}"),
        str(named.get("logStream") or f"{day}[{vm.image_version or 1}.0]{vm.id}"),
    )
