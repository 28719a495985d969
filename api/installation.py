"""Commands `installation show` and `renew`: `wastestream installation`, `python -m api.installation`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import click

from api.commands import CommandGroup
from core.errors import DataLostError
from core.redis.client import connect
from core.redis.installation import Installation
from core.settings import Settings, load_settings
from core.storage import ObjectStore

LOST: Final = 3
"""Exit code if data were lost."""


@click.command()
@click.pass_obj
def show(opened: Callable[[], Installation]) -> None:
    """Show whether the data in Redis and storage belong together.

    The exit code is 3 if data were lost, 1 if Redis or storage is down.
    """
    try:
        mark = opened().compare(make=False)
    except DataLostError as error:
        click.echo(str(error), err=True)
        raise SystemExit(LOST) from error
    if mark is None:
        click.echo("Neither Redis nor storage belongs to an installation: the API has never been started.")
    else:
        click.echo(f"Redis and storage belong together (installation {mark}).")


@click.command()
@click.pass_obj
def renew(opened: Callable[[], Installation]) -> None:
    """Accept the loss of data: start a new installation with Redis and storage as they are.

    The API opens within two seconds. If no data are lost, this does nothing.
    """
    installation = opened()
    with suppress(DataLostError):
        mark = installation.compare(make=False)
        if mark is not None:
            click.echo(f"Nothing is lost: Redis and storage belong together (installation {mark}).")
            return
    mark = installation.renew()
    click.echo(
        f"Redis and storage now belong together (installation {mark}). The lost data are not restored."
    )


COMMANDS: Final = (show, renew)
"""Commands of a group whose `obj` is a function that opens the `Installation`."""


def installation_of(settings: Settings) -> Installation:
    """Return the installation in the Redis and storage of the settings."""
    return Installation(connect(settings.redis), ObjectStore(settings))


@click.group(cls=CommandGroup, commands=COMMANDS)
@click.pass_context
def installation(context: click.Context) -> None:
    """Show whether Redis or storage has lost data, or accept the loss."""
    context.obj = lambda: installation_of(load_settings())


if __name__ == "__main__":
    installation(prog_name="python -m api.installation")
