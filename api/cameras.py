"""`cameras list`, `forget`: of `wastestream cameras`, and in containers of `python -m api.cameras`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import click

from api.commands import CommandGroup, print_table
from core.cameras import camera_id
from core.errors import CameraBusyError, KeyNotFoundError
from core.hours import start_of
from core.redis.api_keys import KeyStore
from core.redis.client import connect
from core.redis.ledger import Camera, Ledger
from core.settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class CameraBook:
    """The cameras in one Redis, and the names of the API keys that brought them."""

    ledger: Ledger
    keys: KeyStore

    @classmethod
    def of(cls, settings: Settings) -> CameraBook:
        """Return the cameras in the Redis of these settings."""
        client = connect(settings.redis_url.get_secret_value())
        return cls(Ledger(client), KeyStore(client))

    def names_brought_by(self, name_or_id: str) -> list[str]:
        """Return the cameras that a key brought, also a revoked one.

        Raises:
            KeyNotFoundError: no key has this name or id.
        """
        ids = {key.id for key in self.keys.all() if name_or_id in {key.id, key.name}}
        cameras = self.ledger.cameras()
        if not ids and name_or_id not in {camera.key for camera in cameras}:
            raise KeyNotFoundError(f"No key is called {name_or_id!r} or has that id.")
        return [camera.name for camera in cameras if camera.key in ids | {name_or_id}]


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.pass_obj
def list_cameras(opened: Callable[[], CameraBook], *, as_json: bool) -> None:
    """Show the cameras that the ledger knows, the one that sent something last first."""
    book = opened()
    cameras = book.ledger.cameras()
    names = {key.id: key.name for key in book.keys.all()}
    if as_json:
        for camera in cameras:
            click.echo(json.dumps(_as_json(camera, names)))
        return
    if not cameras:
        click.echo("There are no cameras yet; each is known from its first image on.", err=True)
        return
    rows = [("camera", "images", "pending", "last hour", "brought by the key")]
    rows += [
        (
            camera.name,
            f"{camera.counts['received']:,}",
            f"{camera.counts.owed:,}",
            _hour(camera).replace("T", " ").replace("Z", " UTC"),
            names.get(camera.key, camera.key),
        )
        for camera in cameras
    ]
    print_table(rows)


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--key", metavar="NAME|ID", help="Forget every camera that this API key brought.")
@click.pass_obj
def forget(opened: Callable[[], CameraBook], *, names: tuple[str, ...], key: str | None) -> None:
    """Forget cameras with their rows of the ledger, so that others can take their places.

    What they sent stays: results and images can be asked for as long as ever. One that has jobs in progress
    is not forgotten, and the exit code is then 1.
    """
    if bool(names) is bool(key):
        raise click.UsageError("Name the cameras to forget, or the key that brought them with --key.")
    book, busy = opened(), False
    for name in book.names_brought_by(key) if key else map(camera_id, names):
        try:
            images = book.ledger.forget_camera(name)
        except CameraBusyError as error:
            click.echo(str(error), err=True)
            busy = True
        else:
            click.echo(f"Forgot the camera {name}, which had sent {images:,} images.")
    if busy:
        raise SystemExit(1)


COMMANDS: Final = (list_cameras, forget)
"""What a group of them is made of; its object opens the `CameraBook`."""


def _hour(camera: Camera) -> str:
    return f"{start_of(camera.last_hour):%Y-%m-%dT%H:%MZ}"


def _as_json(camera: Camera, names: dict[str, str]) -> dict[str, Any]:
    return {
        "camera": camera.name,
        "received": camera.counts["received"],
        "pending": camera.counts.owed,
        "last_hour": _hour(camera),
        "key": {"id": camera.key, "name": names.get(camera.key)} if camera.key else None,
    }


@click.group(cls=CommandGroup, commands=COMMANDS)
@click.pass_context
def cameras(context: click.Context) -> None:
    """List and forget cameras in the Redis that WASTESTREAM_REDIS_URL names."""
    context.obj = lambda: CameraBook.of(load_settings())


if __name__ == "__main__":
    cameras(prog_name="python -m api.cameras")
