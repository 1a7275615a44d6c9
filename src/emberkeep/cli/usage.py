"""usage: what microVMs have used, in the dimensions that AWS charges for."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import click

from emberkeep.cli.shell import client, common, print_json, print_table

if TYPE_CHECKING:
    from emberkeep_sdk import Usage

_COLUMNS: Final = {  # what it is called -> its title, and how it is written
    "vcpu_seconds": ("VCPU-SECONDS", ",.1f"),
    "memory_gb_seconds": ("GB-SECONDS", ",.1f"),
    "snapshot_read_gb": ("GB READ", ",.3f"),
    "snapshot_write_gb": ("GB WRITTEN", ",.3f"),
    "storage_gb_hours": ("GB-HOURS STORED", ",.3f"),
}


@click.command(short_help="Show what microVMs have used.")
@click.option("--since", metavar="DAY", help="First day, as 2026-11-22 (UTC); else 30 days ago.")
@click.option("--until", metavar="DAY", help="Last day, included; else today.")
@click.option("--by", type=click.Choice(["image", "day"]), default="image", show_default=True)
@common
def usage(*, since: str | None, until: str | None, by: str, as_json: bool) -> None:
    """Show what microVMs have used, those that run or sleep now included.

    vCPU- and GB-seconds of what they were launched with while they ran; GB of snapshots read by
    launches and resumes and written by suspends; GB-hours of what suspended ones keep on the disk.
    """
    import msgspec  # noqa: PLC0415  start-up time

    with client() as ek:
        found = ek.usage(since=since, until=until)
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    titles = [title for title, _ in _COLUMNS.values()]
    print_table((by.upper(), *titles), [_row(*one) for one in sorted(_sums(found, by).items())])


def _row(name: str, sums: "Counter[str]") -> tuple[str, ...]:
    return (name, *(format(sums[key], how) for key, (_, how) in _COLUMNS.items()))


def _sums(found: "Iterable[Usage]", by: str) -> dict[str, "Counter[str]"]:
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for one in found:
        for key in _COLUMNS:
            sums[one.day if by == "day" else one.image][key] += getattr(one, key)
    return sums
