"""Differences between a checkout and an installed package: data folder, name of the command."""

from __future__ import annotations

from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
"""Folder that the packages are imported from: a checkout, or site-packages."""

IN_CHECKOUT: Final = (REPOSITORY / "pyproject.toml").is_file()

PROGRAM: Final = "./wastestream" if IN_CHECKOUT else "wastestream"
"""Name of the command, for sentences that say what to do next."""

DEFAULT_FOLDER: Final = (REPOSITORY if IN_CHECKOUT else Path()) / "wastestream-data"
"""Data folder where none is named: in a checkout beside the program, else in the current folder."""

DEFAULT_FOLDER_HELP: Final = "wastestream-data, " + (
    "beside the program" if IN_CHECKOUT else "in the current folder"
)
