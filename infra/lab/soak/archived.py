"""The archive at the end of a soak."""

from __future__ import annotations

import json
import time
from typing import Final

from core.archive import HOUR_MS, Archive
from core.ids import packed_id
from core.redis import keys
from core.redis.feed import Cursor, Feed
from core.redis.job_store import JobStore
from core.redis.sinks import ARCHIVE, SinkStore
from core.settings import PREFIX, Settings
from core.storage import ObjectStore
from infra.lab.stack import Stack, wait_for

_SECONDS: Final = 120.0


def end_hour(stack: Stack, job_id: str) -> float | None:
    """End the hour, as the first result of the next one does; return the seconds until the archive has it.

    A soak is shorter than an hour, and its archive would still be open. No job may settle afterwards, since
    the entry is of the future.

    Args:
        stack: the stack.
        job_id: a settled job, that the entry names.

    Returns:
        None if the archive does not have the hour in time.
    """
    client = stack.redis()
    end = (JobStore(client).now_ms() // HOUR_MS + 1) * HOUR_MS
    store, began = SinkStore(client, Feed(client)), time.monotonic()
    client.xadd(keys.FEED, {"": packed_id(job_id)}, id=f"{end}-0")
    archived = wait_for(lambda: (store.cursor(ARCHIVE) or Cursor(0)).ms >= end, _SECONDS)
    return time.monotonic() - began if archived else None


def archived_ids(stack: Stack) -> list[str]:
    """Return the ids in the whole archive, in order."""
    values = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in stack.variables().items()
        if name.startswith(PREFIX)
    }
    archive = Archive(ObjectStore(Settings.model_validate(values)))
    return [json.loads(line)["id"] for hour in archive.hours() for line in archive.lines(hour)]
