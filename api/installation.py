"""`installation show`, `renew`: of `wastestream installation`, and of `python -m api.installation`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import click

from api.commands import CommandGroup
from core.errors import DataLostError
from core.installation import Installation
from core.redis.client import connect
from core.settings import Settings, load_settings
from core.storage import ObjectStore

LOST: Final = 3
"""Exit code where data were lost."""


@click.command()
@click.pass_obj
def show(opened: Callable[[], Installation]) -> None:
    """Say whether Redis and storage hold data that belong together.

    The exit code is 3 if data were lost, 1 if one of the two does not answer.
    """
    try:
        mark = opened().compare(make=False)
    except DataLostError as error:
        click.echo(str(error), err=True)
        raise SystemExit(LOST) from error
    if mark is None:
        click.echo("Neither Redis nor storage belongs to an installation: the API has not been started yet.")
    else:
        click.echo(f"Redis and storage belong together (installation {mark}).")


@click.command()
@click.pass_obj
def renew(opened: Callable[[], Installation]) -> None:
    """Give up what was lost: let Redis and storage as they are now belong together.

    The API opens within a second or two. While nothing is lost this does nothing.
    """
    installation = opened()
    with suppress(DataLostError):
        mark = installation.compare(make=False)
        if mark is not None:
            click.echo(f"Nothing is lost: Redis and storage belong together (installation {mark}).")
            return
    mark = installation.renew()
    click.echo(
        f"From now on Redis and storage belong together (installation {mark}). What was lost stays lost."
    )


COMMANDS: Final = (show, renew)
"""What a group of them is made of; its object opens the `Installation`."""


def installation_of(settings: Settings) -> Installation:
    """Return the marks in the Redis and the storage that the settings name."""
    return Installation(connect(settings.redis_url.get_secret_value()), ObjectStore(settings))


@click.group(cls=CommandGroup, commands=COMMANDS)
@click.pass_context
def installation(context: click.Context) -> None:
    """Say whether Redis and storage have lost data; begin anew with what is there."""
    context.obj = lambda: installation_of(load_settings())


if __name__ == "__main__":
    installation(prog_name="python -m api.installation")
