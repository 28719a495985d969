"""Which installation a command speaks to: that of a data folder, or of the environment's variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource

from core.errors import WastestreamError
from core.settings import PREFIX, Settings, load_settings
from infra.local.environment import read_variables
from infra.local.errors import StackError
from infra.local.folder import DataFolder
from infra.local.probes import redis_answers

_REDIS_URL: Final = f"{PREFIX}REDIS_URL"


def target_settings(context: click.Context, data_dir: Path) -> Settings:
    """Return the settings of the stack that runs on the data folder.

    Those of the environment where WASTESTREAM_REDIS_URL is set and the option --data-dir is not given.

    Raises:
        ClickException: nothing runs there, or its Redis does not answer.
    """
    named = context.get_parameter_source("data_dir") is not ParameterSource.DEFAULT
    try:
        if os.environ.get(_REDIS_URL) and not named:
            return load_settings()
        return _local_settings(DataFolder(data_dir.absolute()))
    except WastestreamError as error:
        raise click.ClickException(str(error)) from error


def _local_settings(folder: DataFolder) -> Settings:
    if not folder.supervisor():
        raise StackError(
            f"Nothing runs on {folder.path}, and this needs its Redis. Start it with ./wastestream up."
        )
    try:
        variables = read_variables(folder.worker_env)
    except FileNotFoundError as error:
        raise StackError(
            f"{folder.path} is the folder of workers that joined a stack; run this where the stack runs."
        ) from error
    if not redis_answers(variables[_REDIS_URL]):
        raise StackError(f"The Redis of {folder.path} does not answer; `./wastestream status` shows why.")
    return Settings(**{name.removeprefix(PREFIX).lower(): value for name, value in variables.items()})  # type: ignore[arg-type]
