"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from infra.local.folder import DEFAULT_FOLDER

DEFAULT_PORT: Final = 8000
"""The API's port where none is named."""

data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=DEFAULT_FOLDER,
    metavar="DIR",
    help="Folder of this stack's data [wastestream-data, beside the program].",
)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_workers(workers: int) -> str:
    """Return the number with its noun."""
    return "1 worker" if workers == 1 else f"{workers} workers"
