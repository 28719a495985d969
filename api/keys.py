"""Commands `keys create`, `list` and `revoke`: `wastestream keys`, `python -m api.keys`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any, Final

import click

from api.auth.key_cache import REFRESH_SECONDS
from api.commands import CommandGroup, print_table
from core.cameras import camera_pattern
from core.errors import CameraPatternError, KeyBindingError
from core.redis.api_keys import NAME_RULE, Key, KeyStore, Scope, is_key_name
from core.redis.client import connect
from core.settings import RATE_RULE, Settings, is_rate, load_settings
from core.times import optional_timestamp, timestamp

_UNITS: Final = {"h": 3600, "d": 24 * 3600}  # seconds
_MAX_DAYS: Final = 36_500


def _lifetime(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """Parse `12h` or `90d`; return milliseconds."""
    del context, option
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,6})([hd])", text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= _MAX_DAYS * _UNITS["d"]:
        raise click.BadParameter(f"{text!r} is not a time from 1h to {_MAX_DAYS}d; write 12h or 90d.")
    return seconds * 1000


def _rate(context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    del context, option
    if value is not None and not is_rate(value):
        raise click.BadParameter(f"{value:g}: {RATE_RULE}.")
    return value


def _patterns(context: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
    del context, option
    try:
        return tuple(dict.fromkeys(map(camera_pattern, texts)))
    except CameraPatternError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    required=True,
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="Scope of the key; may be repeated. `ingest`: send images. `read`: see results. `admin`: all.",
)
@click.option(
    "--expires",
    callback=_lifetime,
    metavar="12h|90d",
    help="Lifetime, such as 12h or 90d [unlimited].",
)
@click.option(
    "--rate",
    type=float,
    callback=_rate,
    help="Maximum images a second, 0 for no limit [the server's WASTESTREAM_KEY_RATE].",
)
@click.option(
    "--burst",
    type=click.IntRange(1, 1_000_000),
    help="Maximum images at once beyond the rate [the server's WASTESTREAM_KEY_BURST].",
)
@click.option(
    "--camera",
    "cameras",
    multiple=True,
    callback=_patterns,
    metavar="ID",
    help="Camera that the key is for, such as belt-1 or 'line2-*'; may be repeated [all cameras].",
)
@click.pass_obj
def create(
    opened: Callable[[], KeyStore],
    *,
    name: str,
    scopes: tuple[str, ...],
    expires: int | None,
    rate: float | None,
    burst: int | None,
    cameras: tuple[str, ...],
) -> None:
    """Make a key called NAME and print it; it cannot be shown again.

    Standard output has only the key, so `wastestream keys create NAME --scope ingest > FILE` saves it.
    """
    if not is_key_name(name):
        raise click.BadParameter(f"{name[:80]!r}: {NAME_RULE}", param_hint="NAME")
    store = opened()
    until = None if expires is None else time.time_ns() // 1_000_000 + expires
    first = store.version() is None
    try:
        key, token = store.create(
            name, map(Scope, scopes), expires_ms=until, rate=rate, burst=burst, cameras=cameras
        )
    except KeyBindingError as error:
        raise click.UsageError(str(error)) from error
    bound = f"; cameras {_cameras(key)}" if key.cameras else ""
    click.echo(
        f"Made the key {key.name} ({_scopes(key)}{bound}; {_validity(key)}). It is shown only now:",
        err=True,
    )
    click.echo(token)
    if first:
        # API processes see the first key within this time: after the command, every call needs a key.
        time.sleep(REFRESH_SECONDS)


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--all", "everything", is_flag=True, help="Show revoked and expired keys too.")
@click.pass_obj
def list_keys(opened: Callable[[], KeyStore], *, as_json: bool, everything: bool) -> None:
    """Show names, scopes, cameras, limits and dates of the keys, never the keys themselves."""
    keys = [key for key in opened().all() if everything or key.valid]
    if as_json:
        for key in keys:
            click.echo(json.dumps(_as_json(key)))
        return
    if not keys:
        click.echo("There are no valid keys. Make one: wastestream keys create NAME --scope ingest", err=True)
        return
    rows = [("id", "name", "scopes", "cameras", "limit", "made", "")]
    rows += [
        (
            key.id,
            key.name,
            _scopes(key),
            _cameras(key),
            _limit(key),
            _date(key.created_ms),
            _validity(key),
        )
        for key in keys
    ]
    print_table(rows)


@click.command()
@click.argument("name_or_id", metavar="NAME|ID")
@click.pass_obj
def revoke(opened: Callable[[], KeyStore], name_or_id: str) -> None:
    """Revoke a key for ever. The API rejects it within two seconds."""
    store = opened()
    key = store.revoke(name_or_id)
    click.echo(f"Revoked the key {key.name} ({key.id}).")
    if not any(other.valid for other in store.all()):
        click.echo("No valid key is left: the API rejects all calls until there is one.", err=True)


COMMANDS: Final = (create, list_keys, revoke)
"""Commands of a group whose `obj` is a function that opens the `KeyStore`, which `--help` does not need."""


def store_of(settings: Settings) -> KeyStore:
    """Return the keys in the Redis of the settings."""
    return KeyStore(connect(settings.redis))


def _scopes(key: Key) -> str:
    return ", ".join(sorted(key.scopes))


def _cameras(key: Key) -> str:
    return "all" if key.cameras is None else ", ".join(key.cameras)


def _limit(key: Key) -> str:
    if key.rate is None:
        return "" if key.burst is None else f"burst {key.burst:,}"
    if key.rate == 0:
        return "none"
    return f"{key.rate:g}/s" + ("" if key.burst is None else f", burst {key.burst:,}")


def _validity(key: Key) -> str:
    if key.revoked_ms is not None:
        return f"revoked {_date(key.revoked_ms)}"
    if key.expires_ms is None:
        return "does not expire"
    return f"{'expires' if key.valid else 'expired'} {_date(key.expires_ms)}"


def _date(milliseconds: int) -> str:
    return timestamp(milliseconds)[:16].replace("T", " ") + " UTC"


def _as_json(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "cameras": key.cameras,
        "rate": key.rate,
        "burst": key.burst,
        "created_at": timestamp(key.created_ms),
        "expires_at": optional_timestamp(key.expires_ms),
        "revoked_at": optional_timestamp(key.revoked_ms),
    }


@click.group(cls=CommandGroup, commands=COMMANDS)
@click.pass_context
def keys(context: click.Context) -> None:
    """Make, list and revoke API keys in the Redis at WASTESTREAM_REDIS_URL."""
    context.obj = lambda: store_of(load_settings())


if __name__ == "__main__":
    keys(prog_name="python -m api.keys")
