"""`wastestream keys`: API keys of the stack on this machine, or of another one's Redis."""

from __future__ import annotations

from pathlib import Path

import click

from api.commands import CommandGroup
from api.keys import COMMANDS, store_at
from infra.cli.options import data_dir
from infra.cli.target import target_settings


@click.group(cls=CommandGroup, commands=COMMANDS)
@data_dir
@click.pass_context
def keys(context: click.Context, data_dir: Path) -> None:
    """Make, list and revoke API keys.

    They belong to the stack that runs on the data folder or, where WASTESTREAM_REDIS_URL is set and no
    --data-dir is given, to that Redis. From the first key on every call of the API needs one.
    """
    context.obj = store_at(target_settings(context, data_dir).redis_url.get_secret_value())
