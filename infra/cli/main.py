"""The command group. A command's module is imported when that command runs, and no other's."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import click

from core.errors import WastestreamError
from infra.local.checkout import IN_CHECKOUT

COMMANDS: Final = {
    "up": "Start everything on this machine and keep it running.",
    "down": "Stop what `up` started.",
    "status": "Show the processes, their health and the queue.",
    "classify": "Classify images and folders of images.",
    "keys": "Make, list and revoke API keys.",
    "cameras": "List and forget cameras.",
    "installation": "Say whether data were lost; begin anew.",
    "worker": "Run workers on this machine for a stack on another one.",
    "train": "Make a model folder from labelled images.",
    "evaluate": "Measure a model folder on labelled images.",
    "bench": "Measure how fast the whole is on this machine.",
    "soak": "Kill everything in a stack under load, and count.",
    **({"test": "Run the linters and every test."} if IN_CHECKOUT else {}),
}
"""Command to the line that `--help` shows for it.

The lines stand here because importing a command only to ask for its help could import what this
environment does not have. Command NAME is the object `NAME` of the module `infra.cli.NAME`.
"""

_EXTRAS: Final = {"train": "trainer", "bench": "bench"}
"""Command to the extra of this package that brings what a plain installation lacks for it."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of a first visit, not of the alphabet."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, unless only a line of help is wanted."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"infra.cli.{cmd_name}"), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"infra.cli.{cmd_name}.{cmd_name} is not a click command")
        del ctx
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; its errors end it with their sentence and exit code 1."""
        try:
            return super().invoke(ctx)
        except WastestreamError as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            extra = _EXTRAS.get(ctx.invoked_subcommand or "")
            if extra is None:
                raise
            raise click.ClickException(
                f"`wastestream {ctx.invoked_subcommand}` needs packages that are not installed here, such as "
                f"{error.name}: pip install 'wastestream[{extra}]'"
            ) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Classify conveyor-belt images as biodegradable or non-biodegradable waste, and lose none.

    `wastestream COMMAND --help` explains a command.
    """
