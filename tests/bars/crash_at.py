"""A server that kills itself at a step that was asked for: `python -m tests.bars.crash_at WORDS`.

WORDS are those of an `emberkeep` command, with the interpreter in front. The step's name is read
from the file that CRASH_AT_FILE names, whenever one is reached; the file is removed first, so that
the next server gets further. Nothing of this is in the product.
"""

import inspect
import os
import runpy
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

from emberkeep.node import launch, lives, node, resume, suspend, terminate
from emberkeep.node.registry import Registry
from emberkeep.store.images import Images

VARIABLE: Final = "CRASH_AT_FILE"

# Functions of ours, by the names under which they are called: each is a step before and after it.
_STEPS: Final = (
    (launch, "_restored", "launch.restored"),
    (launch, "repaired", "launch.repaired"),
    (launch, "let_go", "launch.thawed"),
    (lives, "prepared", "run.prepared"),
    (suspend, "_taken", "suspend.taken"),
    (suspend, "delta_path", "suspend.stopped"),
    (resume, "_opened", "resume.opened"),
    (resume, "restored", "resume.restored"),
    (resume, "repaired", "resume.repaired"),
    (resume, "_thawed", "resume.thawed"),
    (node, "farewell", "terminate.told"),
    (terminate, "_emptied", "terminate.emptied"),
)  # fmt: skip


def reached(step: str) -> None:
    """Die here and now if that was asked for."""
    asked = Path(os.environ[VARIABLE])  # noqa: TID251  told by the test
    try:
        wanted = asked.read_text(encoding="ascii")
    except FileNotFoundError:
        return
    if wanted == step:
        asked.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def _around(work: Callable[..., Any], name: str) -> Callable[..., Any]:
    @wraps(work)
    async def step(*args: Any, **more: Any) -> Any:
        reached(f"before {name}")
        done = await work(*args, **more)
        reached(f"after {name}")
        return done

    @wraps(work)
    def plain(*args: Any, **more: Any) -> Any:
        reached(f"before {name}")
        done = work(*args, **more)
        reached(f"after {name}")
        return done

    return step if inspect.iscoroutinefunction(work) else plain


def _written(work: Callable[..., Any]) -> Callable[..., Any]:
    """Make the writing of each state a step: "before SUSPENDED", "after SUSPENDED"."""

    @wraps(work)
    async def step(registry: Registry, vm: Any) -> Any:
        was = registry.peek(vm.id)
        way = f"{was.state if was else 'nothing'} to {vm.state}"
        reached(f"before {way}")
        done = await work(registry, vm)
        reached(f"after {way}")
        return done

    return step


def _committed(work: Callable[..., Any]) -> Callable[..., Any]:
    """Make each transaction about images a step: "before images CREATING"."""

    @wraps(work)
    async def step(images: Images, change: Any) -> Any:
        states = [getattr(one, "state", "") for one in _records(change)]
        for state in states:
            reached(f"before images {state}")
        done = await work(images, change)
        for state in states:
            reached(f"after images {state}")
        return done

    return step


def _records(change: Any) -> list[Any]:
    every = (*change.add, *change.save, *change.remove)
    return [one for one in every if type(one).__name__ == "Image"]


def main() -> None:
    """Put the steps in, and be the server."""
    for module, name, step in _STEPS:
        setattr(module, name, _around(getattr(module, name), step))
    for name in ("add", "save"):
        setattr(Registry, name, _written(getattr(Registry, name)))
    Images.commit = _committed(Images.commit)  # type: ignore[method-assign]
    sys.argv = ["emberkeep", *sys.argv[4:]]
    runpy.run_module("emberkeep.cli.main", run_name="__main__")


if __name__ == "__main__":
    main()
