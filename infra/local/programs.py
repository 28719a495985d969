"""Where the programs of the stack are."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from infra.local.errors import StackError
from infra.local.folder import REPOSITORY


def find_program(name: str) -> str:
    """Return the path of redis-server or rclone: installed by the bootstrap, in this environment, or on PATH.

    Raises:
        StackError: it is nowhere.
    """
    places = [REPOSITORY / ".wastestream" / "servers" / "bin", Path(sys.executable).parent]
    found = shutil.which(name, path=os.pathsep.join([*map(str, places), os.environ.get("PATH", "")]))
    if found is None:
        raise StackError(f"The program {name} is not installed. ./wastestream up installs it.")
    return found
