"""logs, top, stats: look into microVMs."""

import itertools
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from emberkeep.cli.shell import (
    client,
    common,
    debuggable,
    harmless,
    print_facts,
    print_json,
    print_table,
    size,
)

if TYPE_CHECKING:
    from emberkeep_sdk import MicroVM

_EVERY_S: Final = 1.0
_SEAM: Final = 4096  # characters by which two looks at a bounded log are joined


@click.command(short_help="Print what a microVM's main process has printed.")
@click.argument("ref", metavar="MICROVM")
@click.option("-f", "--follow", is_flag=True, help="Go on as more comes.")
@click.option("-n", "--number", type=click.IntRange(1, 1000), default=1000, show_default=True,
              help="How many of the latest lines.")  # fmt: skip
@click.option("-t", "--timestamps", is_flag=True, help="With the time of each line.")
@click.option("--console", is_flag=True, help="The serial console instead: kernel and agent, too.")
@debuggable
def logs(ref: str, *, follow: bool, number: int, timestamps: bool, console: bool) -> None:
    """Print what a microVM's main process has printed; docs/logs.md says what is kept.

    What commands of `exec` print goes to who called them, and is not in here.
    """
    with client() as ek:
        vm = ek.get(ref)
        if console:
            for text in _console(vm, follow=follow):
                _print(text.replace("\r", ""), nl=False)
            return
        past = vm.logs(limit=number)
        if not past and not follow:
            click.echo(f"{vm.name} has printed nothing; see also: --console", err=True)
        further = vm.follow_logs(after=past[-1].seq if past else 0) if follow else ()
        for line in itertools.chain(past, further):
            _print(f"{_moment(line.at)}  {line.text}" if timestamps else line.text)


@click.command(short_help="List the processes in a microVM.")
@click.argument("ref", metavar="MICROVM")
@common
def top(ref: str, *, as_json: bool) -> None:
    """List the processes in a microVM."""
    import msgspec  # noqa: PLC0415  start-up time

    with client() as ek:
        found = ek.get(ref).processes()
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    print_table(
        ("PID", "PPID", "USER", "STATE", "MEMORY", "CPU", "COMMAND"),
        [
            (one.pid, one.ppid, one.user, one.state, size(one.rss_bytes), f"{one.cpu_s:.1f}s",
             harmless(one.command))
            for one in found
        ],
    )  # fmt: skip


@click.command(short_help="Show what a microVM uses.")
@click.argument("ref", metavar="MICROVM")
@common
def stats(ref: str, *, as_json: bool) -> None:
    """Show what a microVM uses now: memory, CPU, disk."""
    with client() as ek:
        facts = ek.get(ref).metrics()
    if as_json:
        print_json(facts)
    else:
        print_facts(_readable(facts))


def joined(before: str, after: str) -> str:
    """Return what is new in `after`, a later look at a log that may have lost its start."""
    if after.startswith(before):
        return after[len(before) :]
    seam = before[-_SEAM:]
    at = after.rfind(seam)
    return after if at < 0 else after[at + len(seam) :]


def _print(text: str, *, nl: bool = True) -> None:
    # what was printed as it was printed, where nobody's terminal is at stake
    click.echo(harmless(text) if sys.stdout.isatty() else text, nl=nl, color=True)


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _console(vm: "MicroVM", *, follow: bool) -> Iterator[str]:
    seen = vm.console()
    yield seen
    while follow:
        time.sleep(_EVERY_S)
        now = vm.console()
        if new := joined(seen, now):
            yield new
        seen = now
        if vm.refresh().state == "TERMINATED":
            return


def _readable(facts: Mapping[str, Any]) -> dict[str, Any]:
    sizes = {"memory", "disk"}
    return {
        name: {key: size(count) for key, count in value.items()}
        if name in sizes and isinstance(value, Mapping)
        else value
        for name, value in facts.items()
    }
