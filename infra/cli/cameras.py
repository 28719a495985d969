"""`wastestream cameras`: cameras of the stack on this machine, or of another one's Redis."""

from __future__ import annotations

from api.cameras import COMMANDS, CameraRegistry
from infra.cli.target import target_group


@target_group(CameraRegistry.of, COMMANDS)
def cameras() -> None:
    """List, rename and forget the cameras that the ledger knows.

    They belong to the stack that runs on the data folder or, where WASTESTREAM_REDIS_URL is set and no
    --data-dir is given, to that Redis.
    """
