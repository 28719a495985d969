"""`wastestream installation`: whether Redis and storage have lost data, and beginning anew after that."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import click

from api.commands import CommandGroup
from api.installation import COMMANDS, installation_of
from infra.cli.options import data_dir
from infra.cli.target import target_settings
from infra.local.environment import clean_environment


@click.group(cls=CommandGroup, commands=COMMANDS)
@data_dir
@click.pass_context
def installation(context: click.Context, data_dir: Path) -> None:
    """Say whether Redis and storage have lost data; begin anew with what is there.

    They belong to the stack that runs on the data folder or, where WASTESTREAM_REDIS_URL is set and no
    --data-dir is given, are those that the environment names.
    """
    settings = target_settings(context, data_dir)
    clean_environment(urlsplit(settings.s3_endpoint).hostname or "")
    context.obj = installation_of(settings)
