"""`wastestream cameras`: cameras of the stack on this machine, or of another one's Redis."""

from __future__ import annotations

from pathlib import Path

import click

from api.cameras import COMMANDS, CameraBook
from api.commands import CommandGroup
from infra.cli.options import data_dir
from infra.cli.target import target_settings


@click.group(cls=CommandGroup, commands=COMMANDS)
@data_dir
@click.pass_context
def cameras(context: click.Context, data_dir: Path) -> None:
    """List and forget the cameras that the ledger knows.

    They belong to the stack that runs on the data folder or, where WASTESTREAM_REDIS_URL is set and no
    --data-dir is given, to that Redis.
    """
    context.obj = CameraBook.at(target_settings(context, data_dir).redis_url.get_secret_value())
