"""`wastestream keys`: API keys of the stack on this machine, or of another Redis."""

from __future__ import annotations

from api.keys import COMMANDS, store_of
from infra.cli.target import target_group


@target_group(store_of, COMMANDS)
def keys() -> None:
    """Create, list and revoke API keys.

    The keys belong to the stack of the data folder. With WASTESTREAM_REDIS_URL and without --data-dir, they
    belong to that Redis. After the first key, every API call needs one.
    """
