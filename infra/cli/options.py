"""Options that several commands share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import click

from infra.local.checkout import DEFAULT_FOLDER, DEFAULT_FOLDER_HELP

DEFAULT_PORT: Final = 8000
"""The API's port where none is named."""

API_KEY: Final = "WASTESTREAM_API_KEY"

data_dir = click.option(
    "--data-dir",
    type=click.Path(readable=False, path_type=Path),
    default=DEFAULT_FOLDER,
    metavar="DIR",
    help=f"Folder of this stack's data [{DEFAULT_FOLDER_HELP}].",
)

key_file = click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="WASTESTREAM_API_KEY_FILE",
    show_envvar=True,
    metavar="FILE",
    help="File that holds the API key [the key itself in WASTESTREAM_API_KEY].",
)


def read_key(key_file: Path | None) -> str | None:
    """Return the API key, if there is one. It is no option's value: every user of the machine sees those."""
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
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_workers(workers: int) -> str:
    """Return the number with its noun."""
    return "1 worker" if workers == 1 else f"{workers} workers"
