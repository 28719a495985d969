"""The command group. It imports only the module of the command that runs."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import click

from core.errors import WastestreamError
from infra.local.checkout import IN_CHECKOUT

COMMANDS: Final = {
    "up": "Start the whole system on this machine and keep it running.",
    "down": "Stop the system that `up` started.",
    "status": "Show the processes, their health and the queue.",
    "camera": "Read cameras and folders, and send their frames.",
    "classify": "Classify images and folders of images.",
    "jobs": "List jobs; retry failed and expired ones.",
    "pause": "Pause a lane: accept uploads, but classify none of it.",
    "resume": "Resume a paused lane.",
    "keys": "Create, list and revoke API keys.",
    "cameras": "List and forget cameras.",
    "export": "Write results to CSV, JSON Lines or Parquet.",
    "backup": "Copy a running stack: jobs, results, ledger, keys and images.",
    "restore": "Restore a backup into an empty data folder.",
    "recover": "Make jobs of stored images after Redis was lost.",
    "installation": "Report data loss; continue with the remaining data.",
    "worker": "Run workers on this machine for a stack on another machine.",
    "train": "Train a model on labelled images.",
    "evaluate": "Measure a model on labelled images.",
    "bench": "Measure throughput, latency and cost on this machine.",
    "soak": "Inject faults into a stack under load and count every image.",
    **({"test": "Run the linters and the tests."} if IN_CHECKOUT else {}),
}
"""Command to the line that `--help` shows for it.

The lines are here because the import of a command could need packages that this environment does not
have. Command NAME is the object `NAME` of the module `infra.cli.NAME`.
"""

_EXTRAS: Final = {"camera": "camera", "train": "trainer", "bench": "bench"}
"""Command to the extra of this package with its additional dependencies."""


class LazyGroup(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of first use, not of the alphabet."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"infra.cli.{cmd_name}"), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"infra.cli.{cmd_name}.{cmd_name} is not a click command")
        del ctx
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error prints its sentence and exits with code 1."""
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
                f"{error.name}: pip install 'WHEEL[{extra}]', "
                "where WHEEL is the file that wastestream was installed from."
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
