"""`wastestream keys`: API keys of the stack on this machine, or of another one's Redis."""

from __future__ import annotations

from api.keys import COMMANDS, store_of
from infra.cli.target import target_group


@target_group(store_of, COMMANDS)
def keys() -> None:
    """Make, list and revoke API keys.

    They belong to the stack that runs on the data folder or, where WASTESTREAM_REDIS_URL is set and no
    --data-dir is given, to that Redis. From the first key on every call of the API needs one.
    """
