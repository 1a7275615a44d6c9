"""The Python client of Emberkeep: run code in microVMs.

with Emberkeep() as ek, ek.launch("debian-12") as vm:
    print(vm.exec(["python3", "-c", "print(2**100)"]).stdout)
"""

from emberkeep_sdk._access import Access, find_access
from emberkeep_sdk._async.client import AsyncEmberkeep
from emberkeep_sdk._async.execs import AsyncExec
from emberkeep_sdk._async.files import AsyncFiles
from emberkeep_sdk._async.images import AsyncImages
from emberkeep_sdk._async.keys import AsyncKeys
from emberkeep_sdk._async.microvm import AsyncMicroVM
from emberkeep_sdk._async.ports import AsyncStream
from emberkeep_sdk._errors import (
    AgentLost,
    BuildFailed,
    CommandFailed,
    Conflict,
    ConnectionLost,
    Corrupt,
    Denied,
    EmberkeepError,
    GuestError,
    Invalid,
    Mismatch,
    NoSpace,
    NotFound,
    QuotaExceeded,
    Throttled,
    Unavailable,
    Unreachable,
    WrongState,
)
from emberkeep_sdk._images import Build, Hooks, Image, ImageVersion
from emberkeep_sdk._sync.client import Emberkeep
from emberkeep_sdk._sync.execs import Exec
from emberkeep_sdk._sync.files import Files
from emberkeep_sdk._sync.images import Images
from emberkeep_sdk._sync.keys import Keys
from emberkeep_sdk._sync.microvm import MicroVM
from emberkeep_sdk._sync.ports import Stream
from emberkeep_sdk._values import (
    Entry,
    ExecResult,
    Exit,
    Happening,
    Ingress,
    Key,
    LogLine,
    MicroVMFacts,
    Process,
    Span,
    Token,
    Usage,
)

__all__ = [
    "Access",
    "AgentLost",
    "AsyncEmberkeep",
    "AsyncExec",
    "AsyncFiles",
    "AsyncImages",
    "AsyncKeys",
    "AsyncMicroVM",
    "AsyncStream",
    "Build",
    "BuildFailed",
    "CommandFailed",
    "Conflict",
    "ConnectionLost",
    "Corrupt",
    "Denied",
    "Emberkeep",
    "EmberkeepError",
    "Entry",
    "Exec",
    "ExecResult",
    "Exit",
    "Files",
    "GuestError",
    "Happening",
    "Hooks",
    "Image",
    "ImageVersion",
    "Images",
    "Ingress",
    "Invalid",
    "Key",
    "Keys",
    "LogLine",
    "MicroVM",
    "MicroVMFacts",
    "Mismatch",
    "NoSpace",
    "NotFound",
    "Process",
    "QuotaExceeded",
    "Span",
    "Stream",
    "Throttled",
    "Token",
    "Unavailable",
    "Unreachable",
    "Usage",
    "WrongState",
    "find_access",
]
