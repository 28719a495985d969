"""Commands `cameras list`, `rename` and `forget`: `wastestream cameras`, `python -m api.cameras`."""

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
from core.redis.camera_names import CameraNames
from core.redis.client import connect
from core.redis.ledger import Camera, Ledger
from core.settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class CameraRegistry:
    """The cameras in Redis, and the API keys that introduced them."""

    ledger: Ledger
    names: CameraNames
    keys: KeyStore

    @classmethod
    def of(cls, settings: Settings) -> CameraRegistry:
        """Return the cameras in the Redis of the settings."""
        client = connect(settings.redis)
        names = CameraNames(client, retention=settings.ledger_retention_days * 86_400)
        return cls(Ledger(client), names, KeyStore(client))

    def names_introduced_by(self, name_or_id: str) -> list[str]:
        """Return the cameras that a key introduced; it may be revoked.

        Raises:
            KeyNotFoundError: no key has this name or id.
        """
        ids = {key.id for key in self.keys.all() if name_or_id in {key.id, key.name}}
        cameras = self.ledger.cameras()
        if not ids and name_or_id not in {camera.key for camera in cameras}:
            raise KeyNotFoundError(f"No key has the name or id {name_or_id!r}; see `keys list --all`.")
        return [camera.name for camera in cameras if camera.key in ids | {name_or_id}]


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.pass_obj
def list_cameras(opened: Callable[[], CameraRegistry], *, as_json: bool) -> None:
    """Show the cameras in the ledger, by their latest image."""
    registry = opened()
    cameras = registry.ledger.cameras()
    names = {key.id: key.name for key in registry.keys.all()}
    if as_json:
        for camera in cameras:
            click.echo(json.dumps(_as_json(camera, names)))
        return
    if not cameras:
        click.echo("There are no cameras yet; a camera appears with its first image.", err=True)
        return
    rows = [("camera", "images", "pending", "last hour", "introduced by key")]
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
@click.option("--key", metavar="NAME|ID", help="Forget every camera that this API key introduced.")
@click.pass_obj
def forget(opened: Callable[[], CameraRegistry], *, names: tuple[str, ...], key: str | None) -> None:
    """Forget cameras and their rows of the ledger, so that new cameras can be accepted.

    Results and images are kept as long as others. A camera with jobs in progress is not forgotten, and the
    exit code is then 1.
    """
    if bool(names) is bool(key):
        raise click.UsageError("Name the cameras to forget, or with --key the key that introduced them.")
    registry, busy = opened(), False
    for name in registry.names_introduced_by(key) if key else map(camera_id, names):
        try:
            images = registry.names.forget(name)
        except CameraBusyError as error:
            click.echo(str(error), err=True)
            busy = True
        else:
            click.echo(f"Forgot the camera {name} ({images:,} images).")
    if busy:
        raise SystemExit(1)


@click.command()
@click.argument("name")
@click.argument("new_name")
@click.option("--merge", is_flag=True, help="Add the counts to those of a camera that has the new name.")
@click.pass_obj
def rename(opened: Callable[[], CameraRegistry], *, name: str, new_name: str, merge: bool) -> None:
    """Rename a camera in the ledger, in its description and in what its gateway reports.

    Jobs, results, images and the archive keep the old name. Correct the name at the sender first. A camera
    with jobs in progress is not renamed, and the exit code is then 1.
    """
    name, new_name = camera_id(name), camera_id(new_name)
    images = opened().names.rename(name, new_name, merge=merge)
    click.echo(
        f"Renamed the camera {name} to {new_name} ({images:,} images, whose results keep the old name)."
    )


COMMANDS: Final = (list_cameras, rename, forget)
"""Commands of a group whose `obj` is a function that opens the `CameraRegistry`."""


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
    """List, rename and forget cameras in the Redis at WASTESTREAM_REDIS_URL."""
    context.obj = lambda: CameraRegistry.of(load_settings())


if __name__ == "__main__":
    cameras(prog_name="python -m api.cameras")
