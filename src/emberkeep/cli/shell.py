"""What every command shares: its common options, the client it speaks through, its output."""

import functools
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import click

if TYPE_CHECKING:
    from emberkeep_sdk import AsyncEmberkeep, Emberkeep

P = ParamSpec("P")
R = TypeVar("R")

OWN_FAILURE: Final = 125  # of run, exec and shell, whose other statuses are the command's
INTERRUPTED: Final = 130  # 128 + SIGINT
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@dataclass
class Options:
    """What holds for one call of the command line."""

    debug: bool = False
    failure_status: int = 1


def common(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--json`, which it gets as `as_json`, and `--debug`."""
    command = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)
    return debuggable(command)


def egress_option(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--egress`: what a microVM may reach."""
    text = "What it may reach: internet, none, or a destination (may be repeated)."
    return click.option(
        "--egress", metavar="CIDR[:PORT[-PORT]][/tcp|udp]", multiple=True, help=text
    )(command)


def role_option(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--role`: whose credentials a microVM is told."""
    text = "Its execution role, as configured under [roles]; none otherwise."
    return click.option("--role", metavar="NAME", help=text)(command)


def ingress_options(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command what says how a microVM can be reached, as fields of the SDK's `Ingress`."""
    seconds = click.FloatRange(min=0)
    for option in (
        click.option("--no-auto-resume", "auto_resume", is_flag=True, flag_value=False,
                     default=True, help="A request to its endpoint does not wake it."),
        click.option("--end-after", "suspended_s", type=seconds, metavar="SECONDS",
                     help="Terminate it so long after it was suspended."),
        click.option("--max-idle", "max_idle_s", type=seconds, metavar="SECONDS",
                     help="Suspend it when no byte has crossed its endpoint for so long."),
        click.option("--token-life", "token_life_s", type=click.IntRange(min=1),
                     metavar="SECONDS", help="The longest life of its tokens; 3600."),
        click.option("--shell-ingress", "shell", is_flag=True,
                     help="Let there be tokens for a shell at its endpoint."),
        click.option("--public-port", "public_ports", type=click.IntRange(1, 65535),
                     multiple=True, metavar="PORT",
                     help="Open to everybody who reaches its endpoint, without a token."),
    ):  # fmt: skip
        command = option(command)
    return command


def debuggable(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--debug`."""
    return click.option(
        "--debug", is_flag=True, expose_value=False, callback=_debug, help="Show tracebacks."
    )(command)


def ends_as_its_command(command: Callable[P, R]) -> Callable[P, R]:
    """Let failures of Emberkeep itself end with 125, apart from any status of the command run."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        click.get_current_context().ensure_object(Options).failure_status = OWN_FAILURE
        return command(*args, **kwargs)

    return wrapped


def client() -> "Emberkeep":
    """Return a client of the server that arguments, variables or files name."""
    _spare_httpx()
    from emberkeep_sdk import Emberkeep  # noqa: PLC0415  start-up time

    return Emberkeep()


def async_client() -> "AsyncEmberkeep":
    """Return the same for commands that wait for several things at once."""
    _spare_httpx()
    from emberkeep_sdk import AsyncEmberkeep  # noqa: PLC0415  start-up time

    return AsyncEmberkeep()


def print_json(value: object) -> None:
    """Print `value` for programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print aligned columns; nothing is cut, whatever the width of the terminal."""
    lines = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def print_facts(facts: Mapping[str, Any], *, indent: str = "") -> None:
    """Print names and values; what is nested is set in."""
    width = max((len(name) for name in facts), default=0) + 2
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            click.echo(f"{indent}{name}")
            print_facts(value, indent=indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            rows = {str(one.get("name")): _of_row(one) for one in value}
            click.echo(f"{indent}{name}")
            print_facts(rows, indent=indent + "  ")
        else:
            text = _moment(value) if name.endswith("_at") else _plain(value)
            click.echo(f"{indent}{name.ljust(width)}{text}".rstrip())


def _of_row(one: Mapping[str, Any]) -> str:
    """Return what a span or a defence says beside its name."""
    if "in_force" not in one:
        return f"{one.get('ms')} ms"
    absent = "NOT IN FORCE" if one.get("asked", True) else "not in force"
    words = "in force" if one["in_force"] else absent
    return f"{words}: {one['detail']}" if one.get("detail") else words


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show at a terminal that something takes time."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415  start-up time

    with Console(stderr=True).status(f"{what} …"):
        yield


def note(text: str) -> None:
    """Say something to the person at the terminal, apart from the output."""
    click.echo(text, err=True)


def harmless(text: str) -> str:
    """Return text of a guest with nothing in it that moves or colours the terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "�" for char in text)


def ago(seconds: float, *, now: float | None = None) -> str:
    """Return how long ago a time since the epoch was, roughly."""
    passed = max(0, int((time.time() if now is None else now) - seconds))
    if passed < _MINUTE:
        return f"{passed}s"
    if passed < _HOUR:
        return f"{passed // _MINUTE}m"
    if passed < 2 * _DAY:
        return f"{passed // _HOUR}h"
    return f"{passed // _DAY}d"


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:  # noqa: PLR2004  it is what the units are of
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _plain(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return " ".join(f"{name}={one}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return str(value)


def _moment(value: object) -> str:
    if not isinstance(value, int | float):
        return _plain(value)
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(value))


def _debug(context: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001  click's
    if value:
        context.ensure_object(Options).debug = True


def _spare_httpx() -> None:
    """Let httpx not import its own command line: rich and pygments, a quarter of a second."""
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # "not there", says Python
