"""Command line of Noctile: names of the commands, each loaded when it is called."""

import atexit
import gc
from importlib import import_module
from typing import Any

import click

from noctile.console.exit_codes import INTERRUPTED, USAGE
from noctile.workflows.processes.output import open_closed_streams

COMMANDS = (
    "run",
    "plan",
    "status",
    "verify",
    "table",
    "report",
    "merge",
    "export",
    "regroup",
    "diff",
    "cohort",
    "view",
    "audit",
    "inspect",
    "models",
    "train",
    "evaluate",
    "annotate",
)
"""Commands in the order of the help text; each is ``command`` in `noctile.console.<name>`."""

_OWN_PROCESS = "own process"
"""Context object of a command that runs in a process of its own, which it may end."""


class _Commands(click.Group):
    """Group that loads commands by name; errors and Ctrl-C become one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"noctile.console.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from noctile.pipeline.wrong_values import did_you_mean

            ctx.fail(f"there is no command '{name}'{did_you_mean(name, COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        from noctile.workflows.processes.output import escaped_output

        with escaped_output():
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> Any:
        from noctile.pipeline.errors import NoctileError

        try:
            return super().invoke(ctx)
        except NoctileError as error:
            click.echo(f"noctile: {error}", err=True)
            ctx.exit(USAGE)
        except KeyboardInterrupt:  # a run that has begun handles Ctrl-C itself
            click.echo("noctile: interrupted", err=True)
            if ctx.obj == _OWN_PROCESS:
                from noctile.workflows.processes.control import exit_at_once

                exit_at_once(INTERRUPTED)
            ctx.exit(INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="noctile")
def main() -> None:
    """Segment archives of whole-slide images overnight: masks, tumor areas in mm2, one table."""


def command() -> None:
    """Run `main` as the entry point of a process of its own."""
    open_closed_streams()
    atexit.register(gc.freeze)  # Python's last garbage collection takes 0.4 s and frees nothing
    main(obj=_OWN_PROCESS)


if __name__ == "__main__":
    command()
