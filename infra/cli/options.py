"""Options shared by several commands."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import click

from infra.local.checkout import DEFAULT_FOLDER, DEFAULT_FOLDER_HELP

DEFAULT_PORT: Final = 8000
"""Default port of the API."""

API_KEY: Final = "WASTESTREAM_API_KEY"

data_dir = click.option(
    "--data-dir",
    type=click.Path(readable=False, path_type=Path),
    default=DEFAULT_FOLDER,
    metavar="DIR",
    help=f"Data folder of the stack [{DEFAULT_FOLDER_HELP}].",
)

key_file = click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="WASTESTREAM_API_KEY_FILE",
    show_envvar=True,
    metavar="FILE",
    help="File with the API key [the key itself in WASTESTREAM_API_KEY].",
)


def read_key(key_file: Path | None) -> str | None:
    """Return the API key, if any. It is not an option: every user of the machine sees command lines."""
    try:
        key = key_file.read_text(encoding="utf-8") if key_file else os.environ.get(API_KEY, "")
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{key_file} cannot be read as text.", param_hint="--key-file") from error
    key = key.strip()
    if not re.fullmatch(r"[\x21-\x7e]*", key):
        hint = "--key-file" if key_file else API_KEY
        raise click.BadParameter("an API key is one line without spaces", param_hint=hint)
    return key or None


def cores() -> int:
    """Return the number of cores available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_workers(workers: int) -> str:
    """Return the number with its noun."""
    return "1 worker" if workers == 1 else f"{workers} workers"
