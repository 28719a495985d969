"""Parts of the commands that speak to Redis, run by `wastestream` or in a container."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from core.errors import WastestreamError


class CommandGroup(click.Group):
    """A group whose commands' errors end it with their sentence and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except WastestreamError as error:
            raise click.ClickException(str(error)) from error


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows, the first with the columns' names, as wide as they need."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
