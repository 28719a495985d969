"""Command groups that speak to one installation: that of a data folder, or of the environment."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import click

from api.commands import CommandGroup
from core.settings import PREFIX, Settings, load_settings
from infra.local.checkout import DEFAULT_FOLDER, DEFAULT_FOLDER_HELP, PROGRAM
from infra.local.environment import read_variables
from infra.local.errors import StackError
from infra.local.folder import DataFolder
from infra.local.probes import redis_answers

_REDIS_URL: Final = f"{PREFIX}REDIS_URL"


class Target:
    """The installation that the command line names; called, it opens what the group's commands need of it.

    Args:
        opens: opens that, with the installation's settings.
    """

    def __init__(self, opens: Callable[[Settings], Any]) -> None:
        self.folder: Path | None = None
        self._opens = opens

    def __call__(self) -> Any:
        """Open it.

        Raises:
            StackError: nothing runs on the data folder, or its Redis does not answer.
            SettingsError: the environment's settings cannot work.
        """
        return self._opens(self._settings())

    def _settings(self) -> Settings:
        if self.folder is None and os.environ.get(_REDIS_URL):
            return load_settings()
        return _local_settings(DataFolder((self.folder or DEFAULT_FOLDER).absolute()))


def target_group(
    opens: Callable[[Settings], Any], commands: Iterable[click.Command]
) -> Callable[[Callable[..., Any]], click.Group]:
    """Return a decorator that makes a group whose object is a `Target`.

    The group and each of its commands know `--data-dir`, so it may stand before and after a command's name.
    """

    def choose(context: click.Context, _option: click.Parameter, folder: Path | None) -> None:
        target = context.find_object(Target)
        if target is None:
            target = context.obj = Target(opens)
        if folder is not None:
            target.folder = folder

    data_dir = click.Option(
        ["--data-dir"],
        type=click.Path(readable=False, path_type=Path),
        metavar="DIR",
        expose_value=False,
        callback=choose,
        help=f"Folder of the stack's data [{DEFAULT_FOLDER_HELP}].",
    )

    def twin(command: click.Command) -> click.Command:
        found = copy.copy(command)
        found.params = [*command.params, data_dir]
        return found

    return click.group(cls=CommandGroup, commands=[twin(command) for command in commands], params=[data_dir])


def _local_settings(folder: DataFolder) -> Settings:
    if not folder.supervisor():
        raise StackError(
            f"Nothing runs on {folder.path}, and this needs its Redis. Start it with {PROGRAM} up."
        )
    try:
        variables = read_variables(folder.worker_env)
    except FileNotFoundError as error:
        raise StackError(
            f"{folder.path} is the folder of workers that joined a stack; run this where the stack runs."
        ) from error
    if not redis_answers(variables[_REDIS_URL]):
        raise StackError(f"The Redis of {folder.path} does not answer; `{PROGRAM} status` shows why.")
    return Settings(**{name.removeprefix(PREFIX).lower(): value for name, value in variables.items()})  # type: ignore[arg-type]
