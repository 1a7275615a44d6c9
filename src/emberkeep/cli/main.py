"""The entry of `emberkeep`: which commands there are, and how they fail."""

import importlib
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Final

import click

from emberkeep.cli.shell import INTERRUPTED, Options

# in the order in which --help shows them; a module is loaded when its command is used
COMMANDS: Final[Mapping[str, str]] = {
    "up": "emberkeep.cli.server:up",
    "down": "emberkeep.cli.server:down",
    "status": "emberkeep.cli.server:status",
    "env": "emberkeep.cli.env:env",
    "keys": "emberkeep.cli.keys:keys",
    "console": "emberkeep.cli.console:console",
    "doctor": "emberkeep.cli.host:doctor",
    "setup": "emberkeep.cli.host:setup",
    "images": "emberkeep.cli.images:images",
    "run": "emberkeep.cli.commands:run",
    "launch": "emberkeep.cli.microvms:launch",
    "ps": "emberkeep.cli.microvms:ps",
    "show": "emberkeep.cli.microvms:show",
    "exec": "emberkeep.cli.commands:exec_",
    "shell": "emberkeep.cli.commands:shell",
    "cp": "emberkeep.cli.files:cp",
    "logs": "emberkeep.cli.watch:logs",
    "events": "emberkeep.cli.events:events",
    "usage": "emberkeep.cli.usage:usage",
    "top": "emberkeep.cli.watch:top",
    "stats": "emberkeep.cli.watch:stats",
    "suspend": "emberkeep.cli.microvms:suspend",
    "resume": "emberkeep.cli.microvms:resume",
    "terminate": "emberkeep.cli.microvms:terminate",
    "token": "emberkeep.cli.endpoints:token",
    "ca": "emberkeep.cli.endpoints:ca",
    "port-forward": "emberkeep.cli.ports:port_forward",
}
ALIASES: Final[Mapping[str, str]] = {"processes": "top", "rm": "terminate"}


class Commands(click.Group):
    """The commands, each from a module of its own."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's
        """Return their names."""
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002  click's
        cmd_name: str,
    ) -> click.Command | None:
        """Load one."""
        place = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if place is None:
            return None
        module, _, name = place.partition(":")
        command = getattr(importlib.import_module(module), name)
        return command if isinstance(command, click.Command) else None


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="emberkeep", prog_name="emberkeep")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_obj
def cli(options: Options, *, debug: bool) -> None:
    """Run code in microVMs that suspend with everything in them and wake on demand."""
    options.debug = options.debug or debug


def main(args: Sequence[str] | None = None) -> None:
    """Run one command and end with its status: 0, 1 for failures, 2 for wrong usage.

    `run`, `exec` and `shell` end with the status of the command they ran, and with 125 for
    failures of Emberkeep itself.
    """
    options = Options()
    sys.exit(_run(args, options))


def _run(args: Sequence[str] | None, options: Options) -> int:
    try:
        status = cli.main(args=args, prog_name="emberkeep", standalone_mode=False, obj=options)
        sys.stdout.flush()
    except click.ClickException as wrong:
        wrong.show()
        return wrong.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # click ends with 1 for those it meets; so do we
        sys.stdout = None  # or it would be flushed, and fail, at exit
        return 1
    except Exception as error:  # noqa: BLE001  the CLI's main is one of the three places for it
        return _report(error, options)
    return status if isinstance(status, int) else 0


def _report(error: Exception, options: Options) -> int:
    if options.debug:
        traceback.print_exception(error)
    message = getattr(error, "message", None)
    hint = getattr(error, "hint", "")
    if message is None:  # none of ours
        message = f"{type(error).__name__}: {error}"
        hint = "this should not happen; run it again with --debug and report what it shows"
    click.echo(f"{click.style('error:', fg='red')} {message}", err=True)
    if hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {hint}", err=True)
    return options.failure_status


if __name__ == "__main__":
    main()
