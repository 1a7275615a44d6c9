"""launch, ps, show, suspend, resume, terminate: the life of microVMs."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from emberkeep.cli.shell import (
    ago,
    client,
    common,
    egress_option,
    ingress_options,
    note,
    print_facts,
    print_json,
    print_table,
    role_option,
    waiting,
)

if TYPE_CHECKING:
    from emberkeep_sdk import MicroVM


@click.command(short_help="Launch a microVM and leave it running.")
@click.argument("image")
@click.option("--memory", metavar="SIZE", help='MiB, or such as "2 GiB".')
@click.option("--vcpus", type=int, help="1 to 16.")
@click.option("--name", help="Its name; one is made up otherwise.")
@click.option("--payload", metavar="TEXT", help="What its run hook is given.")
@role_option
@egress_option
@ingress_options
@common
def launch(  # noqa: PLR0913  one for each option
    image: str,
    *,
    memory: str | None,
    vcpus: int | None,
    name: str | None,
    payload: str | None,
    role: str | None,
    egress: tuple[str, ...],
    as_json: bool,
    **ingress: Any,  # noqa: ANN401  how it can be reached
) -> None:
    """Launch a microVM from IMAGE (debian-12, NAME, NAME:VERSION) and print its name."""
    with client() as ek, waiting("launching (the first of an image and size takes its snapshot)"):
        from emberkeep_sdk import Ingress  # noqa: PLC0415  start-up time

        vm = ek.launch(
            image, memory=memory, vcpus=vcpus, name=name, egress=egress or None,
            ingress=Ingress(**ingress), role=role, payload=payload,
        )  # fmt: skip
    if as_json:
        print_json(facts_of(vm))
    else:
        click.echo(vm.name)


@click.command(short_help="List microVMs.")
@click.option("-a", "--all", "everything", is_flag=True, help="Also those of the last day.")
@click.option("-q", "--quiet", is_flag=True, help="Print names only.")
@common
def ps(*, everything: bool, quiet: bool, as_json: bool) -> None:
    """List the microVMs that live."""
    with client() as ek:
        found = ek.list(everything=everything)
    if as_json:
        print_json([facts_of(vm) for vm in found])
    elif quiet:
        for vm in found:
            click.echo(vm.name)
    else:
        print_table(
            ("NAME", "IMAGE", "STATE", "MEMORY", "VCPUS", "AGE", "ENDPOINT", "ID"),
            [
                (
                    vm.name,
                    vm.image,
                    vm.state,
                    f"{vm.facts.memory_mib} MiB",
                    vm.facts.vcpus,
                    ago(vm.facts.created_at),
                    vm.endpoint or "-",
                    vm.id,
                )
                for vm in found
            ],
        )


@click.command(short_help="Show what is known of a microVM.")
@click.argument("ref", metavar="MICROVM")
@click.option("--timeline", is_flag=True, help="Where the time of launch, suspend, resume went.")
@common
def show(ref: str, *, timeline: bool, as_json: bool) -> None:
    """Show what is known of a microVM, named by its name, id, or the beginning of its id."""
    with client() as ek:
        vm = ek.get(ref)
        if timeline:
            _print_timeline(vm, as_json=as_json)
            return
        facts = facts_of(vm)
    if as_json:
        print_json(facts)
        return
    details = facts.pop("details", None)
    print_facts(facts)
    if details:
        print_facts({"details": details})


@click.command(short_help="Put microVMs aside, with everything in them.")
@click.argument("refs", metavar="MICROVM…", nargs=-1, required=True)
@common
def suspend(refs: Sequence[str], *, as_json: bool) -> None:
    """Put microVMs aside with everything in them; they use no memory and no CPU then."""
    _each(refs, lambda vm: vm.suspend(), as_json=as_json)


@click.command(short_help="Let suspended microVMs go on.")
@click.argument("refs", metavar="MICROVM…", nargs=-1, required=True)
@common
def resume(refs: Sequence[str], *, as_json: bool) -> None:
    """Let microVMs go on where they were suspended."""
    _each(refs, lambda vm: vm.resume(), as_json=as_json)


@click.command(short_help="End microVMs and remove what is in them.")
@click.argument("refs", metavar="MICROVM…", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that live.")
@common
def terminate(refs: Sequence[str], *, everything: bool, as_json: bool) -> None:
    """End microVMs and remove what is in them."""
    if everything == bool(refs):
        raise click.UsageError("name the microVMs to terminate, or say --all")
    if everything:
        with client() as ek:
            refs = [vm.id for vm in ek.list()]
    _each(refs, lambda vm: vm.terminate(), as_json=as_json)


def facts_of(vm: "MicroVM") -> dict[str, Any]:
    """Return what is known of `vm`, as the server's JSON has it."""
    import msgspec  # noqa: PLC0415  start-up time

    facts: dict[str, Any] = msgspec.to_builtins(vm.facts)
    return facts


def _print_timeline(vm: "MicroVM", *, as_json: bool) -> None:
    import msgspec  # noqa: PLC0415  start-up time

    spans = vm.timeline()
    if as_json:
        print_json(msgspec.to_builtins(spans))
        return
    rows = [
        (verb, one.name, f"{one.at_ms:.1f}", f"{one.ms:.1f}")
        for verb, parts in spans.items()
        for one in parts
    ]
    print_table(("VERB", "PART", "AT MS", "MS"), rows)


def _each(refs: Sequence[str], change: Callable[["MicroVM"], object], *, as_json: bool) -> None:
    """Change one after the other; those behind one that fails are still changed."""
    changed: list[MicroVM] = []
    failures: list[Exception] = []
    with client() as ek:
        from emberkeep_sdk import EmberkeepError  # noqa: PLC0415  start-up time

        for ref in refs:
            try:
                vm = ek.get(ref)
                change(vm)
                changed.append(vm)
            except EmberkeepError as failed:
                failures.append(failed)
    if as_json:
        print_json([facts_of(vm) for vm in changed])
    else:
        for vm in changed:
            click.echo(f"{vm.name}  {vm.state}")
    for earlier in failures[:-1]:
        note(f"error: {earlier}")
    if failures:
        raise failures[-1]
