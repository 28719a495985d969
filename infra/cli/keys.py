"""`wastestream keys`: API keys of the stack on this machine, or of another one's Redis."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource

from api.keys import COMMANDS, KeysGroup, store_at
from core.errors import WastestreamError
from core.settings import PREFIX, load_settings
from infra.cli.options import data_dir
from infra.local.environment import read_variables
from infra.local.errors import StackError
from infra.local.folder import DataFolder
from infra.local.probes import redis_answers

_REDIS_URL: Final = f"{PREFIX}REDIS_URL"


@click.group(cls=KeysGroup, commands=COMMANDS)
@data_dir
@click.pass_context
def keys(context: click.Context, data_dir: Path) -> None:
    """Make, list and revoke API keys.

    They belong to the stack that runs on the data folder or, where WASTESTREAM_REDIS_URL is set and no
    --data-dir is given, to that Redis. From the first key on every call of the API needs one.
    """
    named = context.get_parameter_source("data_dir") is not ParameterSource.DEFAULT
    try:
        if os.environ.get(_REDIS_URL) and not named:
            url = load_settings().redis_url.get_secret_value()
        else:
            url = _local_url(DataFolder(data_dir.absolute()))
        context.obj = store_at(url)
    except WastestreamError as error:
        raise click.ClickException(str(error)) from error


def _local_url(folder: DataFolder) -> str:
    if not folder.supervisor():
        raise StackError(
            f"Nothing runs on {folder.path}, and its keys are in its Redis. Start it with ./wastestream up."
        )
    try:
        url = read_variables(folder.worker_env)[_REDIS_URL]
    except FileNotFoundError as error:
        raise StackError(
            f"{folder.path} is the folder of workers that joined a stack; keys are made where the stack runs."
        ) from error
    if not redis_answers(url):
        raise StackError(f"The Redis of {folder.path} does not answer; `./wastestream status` shows why.")
    return url
