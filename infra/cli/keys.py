"""`wastestream keys`: API keys of the stack on this machine, or of another one's Redis."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Final

import click

from api.keys import COMMANDS, KeysGroup, store_at
from core.keys import KeyStore
from core.settings import PREFIX, load_settings
from infra.local.environment import read_variables
from infra.local.errors import StackError
from infra.local.folder import DEFAULT_FOLDER, DataFolder
from infra.local.probes import redis_answers

_REDIS_URL: Final = f"{PREFIX}REDIS_URL"


class _Place:
    """Where the keys are, as the command line says it; called, it opens them."""

    def __init__(self) -> None:
        self.folder: Path | None = None

    def __call__(self) -> KeyStore:
        """Open the keys of the folder named, or of the Redis in the environment, or of the usual folder."""
        if self.folder is None and os.environ.get(_REDIS_URL):
            return store_at(load_settings().redis_url.get_secret_value())
        return store_at(_local_url(DataFolder((self.folder or DEFAULT_FOLDER).absolute())))


def _choose(context: click.Context, _option: click.Parameter, folder: Path | None) -> None:
    place = context.ensure_object(_Place)
    if folder is not None:
        place.folder = folder


_DATA_DIR: Final = click.Option(
    ["--data-dir"],
    type=click.Path(path_type=Path),
    metavar="DIR",
    expose_value=False,
    callback=_choose,
    help="Folder of the stack's data [wastestream-data, beside the program].",
)
"""Known to the group and to each of its commands, before and after the command's name."""


def _with_data_dir(command: click.Command) -> click.Command:
    twin = copy.copy(command)
    twin.params = [*command.params, _DATA_DIR]
    return twin


@click.group(cls=KeysGroup, commands=[_with_data_dir(command) for command in COMMANDS], params=[_DATA_DIR])
def keys() -> None:
    """Make, list and revoke API keys.

    They belong to the stack that runs on the data folder or, where WASTESTREAM_REDIS_URL is set and no
    --data-dir is given, to that Redis. From the first key on every call of the API needs one.
    """


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
