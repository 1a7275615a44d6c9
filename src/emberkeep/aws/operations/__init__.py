"""What is done for each operation, as a list: a handler takes a call and returns the output."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from emberkeep.aws.call import Call
from emberkeep.aws.operations import managed

HANDLERS: Final[Mapping[str, Callable[[Call], Awaitable[dict[str, Any]]]]] = {
    "ListManagedMicrovmImages": managed.list_images,
}
