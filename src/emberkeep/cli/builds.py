"""images build, images import: have an image built, and watch it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import click

from emberkeep.base.aio import beside
from emberkeep.cli.shell import (
    INTERRUPTED,
    async_client,
    common,
    egress_option,
    note,
    print_json,
    size,
    waiting,
)

if TYPE_CHECKING:
    from emberkeep.cli.watching import View
    from emberkeep_sdk import AsyncEmberkeep, Build

P = ParamSpec("P")
R = TypeVar("R")

_HOOKS: Final = {"ready": 30, "validate": 30, "run": 1, "resume": 1, "suspend": 1, "terminate": 1}
_EVERY_S: Final = 1.0


class Hooked(click.Command):
    """A command whose hooks may be named with a timeout or without: --ready, --ready=60."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the timeouts that are left out."""
        made: list[str] = []
        for at, word in enumerate(args):
            name = word.removeprefix("--")
            follows = args[at + 1] if at + 1 < len(args) else ""
            if word.startswith("--") and name in _HOOKS and not follows.isdecimal():
                made.append(f"{word}={_HOOKS[name]}")
            else:
                made.append(word)
        return super().parse_args(ctx, made)


def _options(command: Callable[P, R]) -> Callable[P, R]:
    """Add what says how an image shall be."""
    seconds = click.IntRange(min=1)
    for name, default in reversed(_HOOKS.items()):
        command = click.option(
            f"--{name}",
            type=seconds,
            metavar="[=S]",
            help=f"It has this hook; {default} s if it is not said.",
        )(command)
    for option in (
        click.option("--hook-port", type=click.IntRange(1, 65535), metavar="PORT",
                     help="Where the application answers hooks."),
        click.option("--capabilities", type=click.Choice(["ALL"]),
                     help="ALL: every capability of Linux."),
        click.option("--tag", "tags", metavar="K=V", multiple=True, help="May be repeated."),
        click.option("--description", help="Of the version, for people."),
        click.option("-e", "--env", "variables", metavar="K=V", multiple=True,
                     help="Set a variable of the workload; may be repeated."),
        click.option("--memory", metavar="SIZE",
                     help='Of its microVMs: 512, 1024, 2048 (default), 4096, 8192 MiB or "1 GiB".'),
        click.option("-d", "--detach", is_flag=True, help="Do not wait for the build."),
    ):  # fmt: skip
        command = option(command)
    return common(egress_option(command))


@click.command(cls=Hooked, short_help="Build an image from a Dockerfile.")
@click.argument("source", metavar="DIR|ZIP|s3://BUCKET/KEY")
@click.option("-n", "--name", required=True, help="The image; made if there is none of the name.")
@_options
def build(source: str, *, name: str, as_json: bool, detach: bool, **given: Any) -> None:  # noqa: ANN401  options
    """Build a version of an image from a folder with a Dockerfile, or a zip of one.

    What .dockerignore names is left out. Ctrl-C leaves the build, which goes on by itself.
    """
    wish = _wish(name=name, **given)

    async def begin(ek: "AsyncEmberkeep") -> "Build":
        return await ek.images.build(source, wait=False, **wish)

    _run(begin, as_json=as_json, detach=detach)


@click.command("import", cls=Hooked, short_help="Make an image from an OCI archive.")
@click.argument("archive", metavar="ARCHIVE", type=click.Path(exists=True))
@click.option("-n", "--name", required=True, help="The image; made if there is none of the name.")
@_options
def import_(archive: str, *, name: str, as_json: bool, detach: bool, **given: Any) -> None:  # noqa: ANN401  options
    """Make a version of an image from one that is there: an OCI archive, an OCI layout, or a
    file that docker save has written.
    """
    wish = _wish(name=name, **given)

    async def begin(ek: "AsyncEmberkeep") -> "Build":
        return await ek.images.import_archive(archive, wait=False, **wish)

    _run(begin, as_json=as_json, detach=detach)


def _wish(
    *,
    variables: Sequence[str],
    tags: Sequence[str],
    capabilities: str | None,
    hook_port: int | None,
    egress: Sequence[str],
    **rest: Any,  # noqa: ANN401  hooks, and what the SDK calls the same
) -> dict[str, Any]:
    from emberkeep_sdk import Hooks  # noqa: PLC0415  start-up time

    hooks = {name: rest.pop(name) for name in _HOOKS}
    if any(hooks.values()) and hook_port is None:
        raise click.UsageError("say at which port the hooks are answered: --hook-port PORT")
    return {
        "environment": _pairs(variables, "variable"),
        "tags": _pairs(tags, "tag") or None,
        "capabilities": [capabilities] if capabilities else [],
        "egress": list(egress) or None,
        "hooks": Hooks(port=hook_port, **hooks),
        **rest,
    }


def _pairs(given: Sequence[str], what: str) -> dict[str, str]:
    made = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not name or not equals:
            raise click.UsageError(f"not a {what}: {one!r}; write it as NAME=VALUE")
        made[name] = value
    return made


def _run(
    begin: Callable[["AsyncEmberkeep"], Awaitable["Build"]], *, as_json: bool, detach: bool
) -> None:
    begun: list[Build] = []

    async def main() -> "Build":
        async with async_client() as ek:
            with waiting("sending"):
                begun.append(await begin(ek))
            return begun[0] if detach else await _watched(ek, begun[0])

    try:
        _print(asyncio.run(main()), as_json=as_json)
    except KeyboardInterrupt:
        for one in begun:
            note(
                f"the build of {one.ref} goes on; follow it: emberkeep images logs -f {one.ref}\n"
                f"or end it: emberkeep images cancel {one.ref}"
            )
        click.get_current_context().exit(INTERRUPTED)


async def _watched(ek: "AsyncEmberkeep", build: "Build") -> "Build":
    from emberkeep.cli.watching import shown  # noqa: PLC0415  start-up time
    from emberkeep_sdk import BuildFailed  # noqa: PLC0415  start-up time

    with shown(build.ref) as view:
        try:
            async with beside(_steps(ek, build, view)):
                return await ek.images.wait(build, tell=view.log)
        except BuildFailed:
            view.failed()
            raise


async def _steps(ek: "AsyncEmberkeep", build: "Build", view: "View") -> None:
    """Tell what the build is at, until nobody wants to know."""
    while True:
        now = await ek.images.get_build(build.id)
        view.step(now.step or now.state)
        await asyncio.sleep(_EVERY_S)


def _print(build: "Build", *, as_json: bool) -> None:
    import msgspec  # noqa: PLC0415  start-up time

    if as_json:
        print_json(msgspec.to_builtins(build))
    elif build.over:
        click.echo(summary(build))
    else:
        click.echo(f"{build.ref} is being built; follow it: emberkeep images logs -f {build.ref}")


def summary(build: "Build") -> str:
    """Return what a finished build took, in time and space."""
    spans = []
    if build.ended_at is not None and build.started_at is not None:
        waited = build.started_at - build.created_at
        spans = [f"in {build.ended_at - build.started_at:.0f} s"]
        if waited >= 1:
            spans.append(f"after {waited:.0f} s in the queue")
    sizes = build.sizes
    taken = (
        f": files {size(sizes.code)}, memory {size(sizes.memory)}, disk {size(sizes.disk)}"
        if sizes
        else ""
    )
    return f"{build.ref} is ready, built {' '.join(spans)}".rstrip() + taken
