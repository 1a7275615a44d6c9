"""run, exec, shell: commands in microVMs, joined to the local terminal."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from emberkeep.cli import terminal
from emberkeep.cli.shell import (
    INTERRUPTED,
    async_client,
    common,
    egress_option,
    ends_as_its_command,
    note,
    print_json,
    role_option,
    waiting,
)

if TYPE_CHECKING:
    from emberkeep.cli.session import Interrupts
    from emberkeep_sdk import AsyncExec, AsyncMicroVM

F = TypeVar("F", bound=Callable[..., Any])

_NOT_FOUND: Final = 127  # as a shell says it
# UTF-8 unless the image says otherwise: without it a shell edits bytes, not letters
_SHELL: Final = (
    'export LANG="${LANG:-C.UTF-8}"; command -v bash >/dev/null 2>&1 && exec bash -l; exec sh -l'
)


class Trailing(click.Command):
    """A command line that ends with another one, whose options are not ours.

    Ours may stand anywhere before a "--" that comes right behind the name; without it, whatever
    follows the name is the other command.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Find out where the other command begins."""
        ctx.allow_interspersed_args = "--" in args and self._names_only(
            ctx, args[: args.index("--")]
        )
        return super().parse_args(ctx, args)

    def _names_only(self, ctx: click.Context, words: list[str]) -> bool:
        try:
            found, _, _ = self.make_parser(ctx).parse_args(list(words))
        except click.UsageError:
            return False
        return not isinstance(found.get("argv"), tuple)  # click's own mark for "none given"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run, and how it is joined to the terminal."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    user: str | None = None
    timeout: float | None = None
    stdin: bool = False
    tty: bool = False


def _command_options(function: F) -> F:
    """Add the options that say how a command is run."""
    for option in (
        click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
                     help="Kill it after that time and end with status 124."),
        click.option("-u", "--user", help="A name, uid, or uid:gid of the microVM."),
        click.option("-w", "--workdir", "cwd", metavar="DIR", help="Where to run it."),
        click.option("-e", "--env", "variables", metavar="K=V", multiple=True,
                     help="Set a variable; may be repeated."),
        click.option("-t", "--tty", is_flag=True, help="Give it a terminal."),
    ):  # fmt: skip
        function = option(function)
    return function


@click.command(short_help="Launch a microVM, run a command, terminate it.", cls=Trailing)
@click.option("--memory", metavar="SIZE", help='MiB, or such as "2 GiB".')
@click.option("--vcpus", type=int, help="1 to 16.")
@role_option
@egress_option
@_command_options
@click.argument("image")
@click.argument("argv", metavar="-- COMMAND…", nargs=-1, required=True, type=click.UNPROCESSED)
@common
@ends_as_its_command
def run(  # noqa: PLR0913  one for each option
    *,
    image: str,
    argv: tuple[str, ...],
    memory: str | None,
    vcpus: int | None,
    role: str | None,
    egress: tuple[str, ...],
    as_json: bool,
    **how: Any,  # noqa: ANN401  fields of a Command
) -> None:
    """Launch a microVM from IMAGE, run a command in it, and terminate it whatever happens.

    Standard input is handed on if it is a pipe or a file. Ends with the command's status.
    """
    command = _command(argv, stdin=how["tty"] or terminal.has_input(), **how)

    async def main(interrupts: "Interrupts") -> int:
        async with async_client() as ek:
            with waiting("launching (the first of an image and size takes its snapshot)"):
                launched = await ek.launch(
                    image, memory=memory, vcpus=vcpus, egress=egress or None, role=role
                )
            async with launched as vm:
                if interrupts.interrupted:  # while it was launched
                    return INTERRUPTED
                return await _perform(vm, command, interrupts, as_json=as_json)

    _finish(main)


@click.command("exec", short_help="Run a command in a microVM.", cls=Trailing)
@click.option("-i", "--interactive", is_flag=True, help="Hand standard input on.")
@_command_options
@click.argument("ref", metavar="MICROVM")
@click.argument("argv", metavar="-- COMMAND…", nargs=-1, required=True, type=click.UNPROCESSED)
@common
@ends_as_its_command
def exec_(*, ref: str, argv: tuple[str, ...], interactive: bool, as_json: bool, **how: Any) -> None:  # noqa: ANN401  fields of a Command
    """Run a command in a microVM and end with its status.

    Ctrl-C interrupts the command (SIGINT to its process group), a second one leaves it.
    """
    command = _command(argv, stdin=interactive or how["tty"], **how)

    async def main(interrupts: "Interrupts") -> int:
        async with async_client() as ek:
            return await _perform(await ek.get(ref), command, interrupts, as_json=as_json)

    _finish(main)


@click.command(short_help="Open a shell in a microVM.")
@click.argument("ref", metavar="MICROVM")
@click.option("-u", "--user", help="A name, uid, or uid:gid of the microVM.")
@common
@ends_as_its_command
def shell(ref: str, *, user: str | None, as_json: bool) -> None:
    """Open a shell in a microVM: bash where there is one, else sh.

    Without a terminal, commands are read from standard input.
    """
    tty = terminal.is_terminal()
    command = Command(argv=("/bin/sh", "-c", _SHELL), user=user, stdin=True, tty=tty)

    async def main(interrupts: "Interrupts") -> int:
        async with async_client() as ek:
            return await _perform(await ek.get(ref), command, interrupts, as_json=as_json)

    _finish(main)


def _command(
    argv: Sequence[str],
    *,
    stdin: bool,
    variables: Sequence[str],
    **how: Any,  # noqa: ANN401  fields of a Command
) -> Command:
    env: dict[str, str] = {}
    for variable in variables:
        name, equals, value = variable.partition("=")
        if not name or not equals:
            raise click.UsageError(f"not a variable: {variable!r}; write it as NAME=VALUE")
        env[name] = value
    return Command(argv=argv, env=env, stdin=stdin, **how)


def _finish(main: "Callable[[Interrupts], Awaitable[int]]") -> None:
    from emberkeep.cli.session import run_until_done  # noqa: PLC0415  start-up time

    click.get_current_context().exit(run_until_done(main))


async def _perform(
    vm: "AsyncMicroVM", command: Command, interrupts: "Interrupts", *, as_json: bool
) -> int:
    from emberkeep.cli.session import Kept, join, to_terminal  # noqa: PLC0415  start-up time
    from emberkeep_sdk import NotFound  # noqa: PLC0415  start-up time

    try:
        running = await _started(vm, command)
    except NotFound as missing:  # the microVM is there: it is the command, its folder or its user
        note(f"error: {missing.message}")
        return _NOT_FOUND
    kept = Kept()
    take = kept.take if as_json else to_terminal
    how = await join(running, interrupts, take, stdin=command.stdin, tty=command.tty)
    if as_json:
        print_json(
            {
                "exit_code": how.code,
                "signal": how.signal,
                "timed_out": how.timed_out,
                **kept.facts(),
            }
        )
    return how.status


async def _started(vm: "AsyncMicroVM", command: Command) -> "AsyncExec":
    if not command.tty:
        return await vm.start(
            command.argv,
            stdin=command.stdin,
            env=command.env,
            cwd=command.cwd,
            user=command.user,
            timeout=command.timeout,
        )
    rows, cols = terminal.window()
    return await vm.pty(
        command.argv,
        rows=rows,
        cols=cols,
        env={**terminal.kind(), **command.env},
        cwd=command.cwd,
        user=command.user,
        timeout=command.timeout,
    )
