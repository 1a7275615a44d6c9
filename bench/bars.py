"""The names of what is measured, which floor each is told in, and the bars."""

from collections.abc import Mapping
from typing import Final

from bench.figures import Bar

NOTHING, WAITING, WARMED = "nothing", "waiting", "warmed"
READY: Final[Mapping[str, str]] = {
    NOTHING: "nothing ready",
    WAITING: "a process waiting",
    WARMED: "restored and warmed",
}

COLD: Final = "cold boot (bare script)"
FIRST: Final = "first launch of a size (boots, takes the snapshot)"
FLOOR: Final = "floor: launch"
UNREPAIRED: Final = "floor: launch, clock and identity left wrong"
FLOOR_RESUME: Final = "floor: resume"
WRITE: Final = "device state + delta write (bare script)"
EXEC: Final = "exec true, over HTTP"
PING: Final = "agent round trip"
HTTP_PING: Final = "agent round trip, over HTTP"
PRIVATE: Final = "private memory of an idle microVM"
CLEAN: Final = "the same with clean pages that only it maps"
SUSPENDED_BYTES: Final = "bytes of a suspended microVM"
AT_ONCE: Final = "at once: until the last answers"
AT_ONCE_EACH: Final = "at once: each"
AT_ONCE_OK: Final = "at once: succeed"
AT_ONCE_CPU: Final = "at once: CPU"
SINGLY_CPU: Final = "one after the other: CPU"
ALIVE: Final = "microVMs alive"
ALIVE_MEMORY: Final = "all microVMs alive and the server: memory"


def launch(mode: str) -> str:
    """Name the row of launches in a mode."""
    return f"launch, {READY[mode]}"


def resume(mode: str) -> str:
    """Name the row of resumes in a mode."""
    return f"resume, {READY[mode]}"


def suspend(mode: str) -> str:
    """Name the row of suspends in a mode."""
    return f"suspend, {READY[mode]}"


def ready(mode: str) -> str:
    """Name the row of what a microVM that nobody has asked for yet costs."""
    return f"private memory of what is ready: {READY[mode]}"


def sustained(mode: str) -> str:
    """Name the row of launches that follow each other."""
    return f"sustained launches, {READY[mode]}"


def at_once(name: str, mode: str) -> str:
    """Name a row of launches at once in a mode."""
    return f"{name} ({READY[mode]})"


def idle(count: int, what: str) -> str:
    """Name a row about so many idle microVMs."""
    return f"{count} idle microVMs and the server: {what}"


RATIOS: Final[Mapping[str, str]] = {
    UNREPAIRED: FLOOR,
    **{launch(mode): FLOOR for mode in READY},
    **{resume(mode): FLOOR_RESUME for mode in READY},
    **{suspend(mode): WRITE for mode in READY},
    **{at_once(AT_ONCE_CPU, mode): at_once(SINGLY_CPU, mode) for mode in READY},
}


def bars(*, accelerator: str, together: int) -> list[Bar]:
    """Return what must hold on a host with that accelerator, for so many launches at once."""
    found = [
        Bar(row=launch(NOTHING), to=FLOOR, limit=1.3),
        Bar(row=launch(WAITING), to=FLOOR, limit=0.7),
        Bar(row=launch(WARMED), to=FLOOR, limit=0.2),
        *(Bar(row=resume(mode), to=FLOOR_RESUME, limit=1.3) for mode in (NOTHING, WAITING)),
        *(Bar(row=suspend(mode), to=WRITE, limit=3) for mode in (NOTHING, WAITING)),
        *(Bar(row=at_once(AT_ONCE_OK, mode), limit=together, least=True) for mode in READY),
        *(
            Bar(row=at_once(AT_ONCE_CPU, mode), to=at_once(SINGLY_CPU, mode), limit=1.3)
            for mode in READY
        ),
        Bar(row=idle(50, "memory"), limit=4096),
        Bar(row=ALIVE, limit=200, least=True),
    ]
    return [*found, Bar(row=PING, limit=4)] if accelerator == "tcg" else found
