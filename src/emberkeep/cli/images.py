"""images: what microVMs are launched from — look, switch on and off, remove, read build logs."""

import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from emberkeep.cli.shell import (
    ago,
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
    from emberkeep_sdk import Build, Emberkeep, Image, ImageVersion

_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ELSEWHERE: Final[Mapping[str, str]] = {"build": "build", "import": "import_"}


class Images(click.Group):
    """The commands on images; those that build are loaded when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's
        """Return their names."""
        return [*_ELSEWHERE, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one."""
        if cmd_name in _ELSEWHERE:
            from emberkeep.cli import builds  # noqa: PLC0415  start-up time

            command: click.Command = getattr(builds, _ELSEWHERE[cmd_name])
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=Images, short_help="Build images, look at them, remove them.")
def images() -> None:
    """Build images from a Dockerfile, look at them, switch versions on and off, remove them.

    An image has versions, one for each build; NAME:3 is the third, NAME the newest active one.
    """


@images.command("ls", short_help="List images.")
@click.option("-q", "--quiet", is_flag=True, help="Print names only.")
@common
def ls(*, quiet: bool, as_json: bool) -> None:
    """List the images that microVMs can be launched from: the server's own, then those built."""
    import msgspec  # noqa: PLC0415  start-up time

    with client() as ek:
        found = ek.images.list()
    if as_json:
        print_json(msgspec.to_builtins(found))
    elif quiet:
        for one in found:
            click.echo(one.name)
    else:
        print_table(("NAME", "STATE", "ACTIVE", "VERSIONS", "CHANGED"), map(_row, found))


@images.command(short_help="Show an image or a version.")
@click.argument("ref", metavar="NAME[:VERSION]")
@common
def show(ref: str, *, as_json: bool) -> None:
    """Show what is known of an image, or of one of its versions and how it was built."""
    import msgspec  # noqa: PLC0415  start-up time

    with client() as ek:
        if ":" in ref:
            facts = msgspec.to_builtins(ek.images.version(ref))
            facts["builds"] = msgspec.to_builtins(ek.images.builds(ref))
        else:
            facts = msgspec.to_builtins(ek.images.get(ref))
    if as_json:
        print_json(facts)
        return
    builds = facts.pop("builds", [])
    print_facts(_readable(facts))
    for build in builds:
        print_facts({f"build {build.pop('id')}": _readable(build)})


@images.command(short_help="List the versions of an image.")
@click.argument("name")
@common
def versions(name: str, *, as_json: bool) -> None:
    """List the versions of an image, newest first."""
    import msgspec  # noqa: PLC0415  start-up time

    with client() as ek:
        found = ek.images.versions(name)
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    print_table(
        ("VERSION", "STATE", "STATUS", "MEMORY", "FILES", "AGE", "REASON"),
        [
            (one.ref, one.state, one.status, f"{one.memory_mib} MiB",
             "-" if one.bytes is None else size(one.bytes), ago(one.created_at),
             harmless((one.reason or "").partition("\n")[0]))
            for one in found
        ],
    )  # fmt: skip


@images.command(short_help="Let versions be launched again.")
@click.argument("refs", metavar="NAME:VERSION…", nargs=-1, required=True)
@common
def activate(refs: tuple[str, ...], *, as_json: bool) -> None:
    """Let versions be launched again."""
    _each(refs, lambda ek, ref: ek.images.activate(ref), as_json=as_json)


@images.command(short_help="Let versions be launched no more.")
@click.argument("refs", metavar="NAME:VERSION…", nargs=-1, required=True)
@common
def deactivate(refs: tuple[str, ...], *, as_json: bool) -> None:
    """Let versions be launched no more; microVMs that were launched from them go on."""
    _each(refs, lambda ek, ref: ek.images.deactivate(ref), as_json=as_json)


@images.command(short_help="Remove images, or versions of them.")
@click.argument("refs", metavar="NAME[:VERSION]…", nargs=-1, required=True)
@common
def rm(refs: tuple[str, ...], *, as_json: bool) -> None:
    """Remove images with all their versions, or single versions.

    It is refused while microVMs of them are alive.
    """
    with client() as ek:
        for ref in refs:
            ek.images.delete(ref)
            if not as_json:
                click.echo(f"{ref}  DELETING")
    if as_json:
        print_json([{"ref": ref, "state": "DELETING"} for ref in refs])


@images.command(short_help="Print the log of a build.")
@click.argument("ref", metavar="NAME[:VERSION]|BUILD")
@click.option("-f", "--follow", is_flag=True, help="Go on as more comes, until the build is over.")
@debuggable
def logs(ref: str, *, follow: bool) -> None:
    """Print the log of a build: of the newest one of an image or version, or by its id."""
    from codecs import getincrementaldecoder  # noqa: PLC0415  start-up time

    decoder = getincrementaldecoder("utf-8")("replace")
    with client() as ek, ek.images.log(_build(ek, ref).id, follow=follow) as chunks:
        for chunk in chunks:
            text = decoder.decode(chunk)
            click.echo(harmless(text.replace("\r", "")) if sys.stdout.isatty() else text, nl=False)


@images.command(short_help="End a build.")
@click.argument("ref", metavar="NAME[:VERSION]|BUILD")
@common
def cancel(ref: str, *, as_json: bool) -> None:
    """End a build that is not over: the newest one of an image or version, or by its id."""
    import msgspec  # noqa: PLC0415  start-up time

    with client() as ek:
        build = ek.images.cancel(_build(ek, ref).id)
    if as_json:
        print_json(msgspec.to_builtins(build))
    else:
        click.echo(f"{build.ref}  {build.state}")


def _build(ek: "Emberkeep", ref: str) -> "Build":
    if _ID.fullmatch(ref):
        return ek.images.get_build(ref)
    found = ek.images.builds(ref)
    if not found:
        raise click.UsageError(f"{ref} was never built; see: emberkeep images ls")
    return found[0]


def _each(
    refs: tuple[str, ...], change: Callable[["Emberkeep", str], "ImageVersion"], *, as_json: bool
) -> None:
    import msgspec  # noqa: PLC0415  start-up time

    with client() as ek:
        changed = [change(ek, ref) for ref in refs]
    if as_json:
        print_json(msgspec.to_builtins(changed))
    else:
        for one in changed:
            click.echo(f"{one.ref}  {one.status}")


def _row(one: "Image") -> tuple[object, ...]:
    if one.kind == "base":
        return (one.name, "-", "-", "-", "-")
    active = "-" if one.latest_active is None else one.latest_active
    changed = "-" if one.updated_at is None else f"{ago(one.updated_at)} ago"
    return (one.name, one.state, active, one.versions, changed)


def _readable(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts with sizes for people and without what is not there."""
    made = {name: value for name, value in facts.items() if value not in (None, {}, [], "")}
    if isinstance(made.get("bytes"), int):
        made["bytes"] = size(made["bytes"])
    if isinstance(made.get("sizes"), Mapping):
        made["sizes"] = {name: size(count) for name, count in made["sizes"].items()}
    if isinstance(made.get("reason"), str):
        made["reason"] = harmless(made["reason"])
    if isinstance(made.get("hooks"), Mapping):
        hooks = made["hooks"].items()
        made["hooks"] = {name: value for name, value in hooks if value is not None} or "-"
    return made
