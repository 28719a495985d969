"""Shared parts of the commands on Redis, run by `wastestream` or in a container."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from core.errors import WastestreamError


class CommandGroup(click.Group):
    """A group that reports its commands' errors as a sentence, with exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except WastestreamError as error:
            raise click.ClickException(str(error)) from error


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in aligned columns; the first row has the names of the columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
