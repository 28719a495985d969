"""Commands, and groups of them, for one installation: of a data folder, or of the environment."""

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
from infra.local.redis_probes import redis_answers

_REDIS_URL: Final = f"{PREFIX}REDIS_URL"


class Target:
    """The installation that the command line names; a call opens it for the group's commands.

    Args:
        opens: opens the object of the commands from the installation's settings.
    """

    def __init__(self, opens: Callable[[Settings], Any]) -> None:
        self.folder: Path | None = None
        self._opens = opens

    def __call__(self) -> Any:
        """Open the installation.

        Raises:
            StackError: no stack runs on the data folder, or its Redis does not answer.
            SettingsError: the environment's settings are invalid.
        """
        if self.folder is None and os.environ.get(_REDIS_URL):
            return self._opens(load_settings())
        return self._opens(self.local_settings(DataFolder((self.folder or DEFAULT_FOLDER).absolute())))

    def local_settings(self, folder: DataFolder) -> Settings:
        """Return the settings of the stack that runs on a data folder.

        Raises:
            StackError: none does, or its Redis does not answer.
        """
        if not folder.supervisor():
            raise StackError(
                f"No stack runs on {folder.path}, and this command needs its Redis. "
                f"Start one with {PROGRAM} up."
            )
        try:
            settings = settings_of(folder)
        except FileNotFoundError as error:
            raise StackError(
                f"{folder.path} is the folder of workers for another stack; "
                "run this command where the stack runs."
            ) from error
        if not redis_answers(settings.redis_url.get_secret_value()):
            raise StackError(f"The Redis of {folder.path} does not answer; `{PROGRAM} status` shows why.")
        return settings


def settings_of(folder: DataFolder) -> Settings:
    """Return the settings with which the stack of a data folder was started."""
    variables = read_variables(folder.worker_env)
    return Settings(**{name.removeprefix(PREFIX).lower(): value for name, value in variables.items()})  # type: ignore[arg-type]


def target_command(
    opens: Callable[[Settings], Any], command: click.Command, kind: type[Target] = Target
) -> click.Command:
    """Return a command whose object is a `Target` of a kind, and which accepts `--data-dir`."""
    return _extended(command, _data_dir(opens, kind))


def target_group(
    opens: Callable[[Settings], Any], commands: Iterable[click.Command]
) -> Callable[[Callable[..., Any]], click.Group]:
    """Return a decorator that makes a group whose object is a `Target`.

    The group and each of its commands accept `--data-dir`, before or after the command's name.
    """
    data_dir = _data_dir(opens)
    extended = [_extended(command, data_dir) for command in commands]
    return click.group(cls=CommandGroup, commands=extended, params=[data_dir])


def _data_dir(opens: Callable[[Settings], Any], kind: type[Target] = Target) -> click.Option:
    """Return the option that chooses the data folder, and makes the `Target`."""

    def choose(context: click.Context, _option: click.Parameter, folder: Path | None) -> None:
        target = context.find_object(Target)
        if target is None:
            target = context.obj = kind(opens)
        if folder is not None:
            target.folder = folder

    return click.Option(
        ["--data-dir"],
        type=click.Path(readable=False, path_type=Path),
        metavar="DIR",
        expose_value=False,
        callback=choose,
        help=f"Data folder of the stack [{DEFAULT_FOLDER_HELP}].",
    )


def _extended(command: click.Command, option: click.Option) -> click.Command:
    extended = copy.copy(command)
    extended.params = [*command.params, option]
    return extended
