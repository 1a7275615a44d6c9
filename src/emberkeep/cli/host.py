"""doctor, setup: what this machine can do, and what it still needs."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from emberkeep.cli.shell import common, note, print_json, size

if TYPE_CHECKING:
    from emberkeep.artifacts import Event
    from emberkeep.serve.config import Settings


@click.command(short_help="Look at this machine: what works, what is missing.")
@click.option("--data", type=click.Path(file_okay=False), help="The folder of all state.")
@common
def doctor(*, data: str | None, as_json: bool) -> None:
    """Look at this machine and say what works, what is missing, and what to do about it."""
    from emberkeep.cli.findings import report  # noqa: PLC0415  start-up time
    from emberkeep.serve.config import load  # noqa: PLC0415  start-up time

    fit = report(load({"data": data}), as_json=as_json)
    click.get_current_context().exit(0 if fit else 1)


@click.command(short_help="Get or build kernel, agent and base image.")
@click.option("--data", type=click.Path(file_okay=False), help="The folder of all state.")
@click.option("--extra-ca-file", type=click.Path(dir_okay=False), metavar="PEM",
              help="Certificates that base images shall trust as well.")  # fmt: skip
@click.option("--fresh", is_flag=True, help="Make all anew, from the newest packages.")
@click.option("--verify", is_flag=True, help="Make nothing; check every byte of what is there.")
@common
def setup(
    *, data: str | None, extra_ca_file: str | None, fresh: bool, verify: bool, as_json: bool
) -> None:
    """Get or build what microVMs are made of; what is there already is kept.

    It may be interrupted: the next one goes on with what is missing.
    """
    from emberkeep.serve.config import load  # noqa: PLC0415  start-up time

    settings = load({"data": data, "images.extra_ca_file": extra_ca_file})
    if verify:
        _verify(settings, as_json=as_json)
        return
    start = time.monotonic()
    with _progress(as_json=as_json) as tell:
        asyncio.run(_build(settings, tell, fresh=fresh))
    _say_what_is_there(settings, time.monotonic() - start, as_json=as_json)


async def _build(settings: "Settings", tell: "Callable[[Event], None]", *, fresh: bool) -> None:
    from emberkeep.artifacts import Artifacts, wanted  # noqa: PLC0415  start-up time

    names = wanted(kernel=settings.vmm.kernel, initramfs=settings.vmm.initramfs)
    artifacts = Artifacts(settings.data / "artifacts")
    await artifacts.build(names, tell, settings.images, fresh=fresh)


def _progress(*, as_json: bool) -> "AbstractContextManager[Callable[[Event], None]]":
    if as_json:
        return nullcontext(lambda _: None)
    from emberkeep.cli.progress import shown  # noqa: PLC0415  start-up time

    return shown()


def _say_what_is_there(settings: "Settings", elapsed_s: float, *, as_json: bool) -> None:
    from emberkeep.artifacts import Artifacts  # noqa: PLC0415  start-up time

    artifacts = Artifacts(settings.data / "artifacts")
    found = {name: artifacts.get(name) for name in artifacts.names()}
    if as_json:
        print_json(
            [{"name": name, "digest": one.digest, "path": one.path} for name, one in found.items()]
        )
        return
    total = sum(one.path.stat().st_size for one in found.values())
    note(f"all is there: {', '.join(found)} ({size(total)}, {elapsed_s:.0f} s)")


def _verify(settings: "Settings", *, as_json: bool) -> None:
    from emberkeep.artifacts import Artifacts  # noqa: PLC0415  start-up time

    faults: dict[str, Any] = asyncio.run(Artifacts(settings.data / "artifacts").verify_all())
    if as_json:
        print_json(faults)
    else:
        for name, fault in faults.items():
            click.echo(f"{name}: {fault or 'intact'}")
    click.get_current_context().exit(1 if any(faults.values()) else 0)
