"""The mark of the installation: one random id, in Redis and in storage.

Redis that has lost everything looks like a new one, as storage does: without jobs the ledger balances, and
without API keys everyone is let in. But only a new installation has a mark on neither side.
"""

from __future__ import annotations

from typing import Final, cast

import redis

from core.errors import DataLostError, ObjectNotFoundError
from core.ids import new_job_id
from core.redis.client import translated
from core.redis.keys import INSTALLATION
from core.storage import ObjectStore

OBJECT: Final = ".installation"
"""Object in storage that holds the id."""

_NEW: Final = "new "  # before the id in Redis, until storage has it too

_RENEW: Final = (
    "Put the data back and start again, or give up what is lost and begin anew: "
    "`wastestream installation renew`. Until then the API is closed."
)


class Installation:
    """Compares the marks, and makes them at the first start.

    Every method raises `RedisUnavailableError` or `StorageUnavailableError` while one of the two is down.
    """

    def __init__(self, client: redis.Redis, objects: ObjectStore) -> None:
        self._client = client
        self._objects = objects

    def in_redis(self) -> str | None:
        """Return the id that Redis has; None if it has none, or one that storage may not have yet."""
        mark = self._read_redis()
        return None if mark is None or mark.startswith(_NEW) else mark

    def compare(self, *, make: bool) -> str | None:
        """Return the id if both have the same.

        Args:
            make: whether to make one where neither has one; else None is returned for that.

        Raises:
            DataLostError: one of them has lost its data, or they belong to different installations.
        """
        for _ in range(2):  # Somebody may have been making the mark between the two readings.
            mark, stored = self._read_redis(), self._read_storage()
            if mark is not None and mark.startswith(_NEW) and stored in {None, mark[len(_NEW) :]}:
                return self._finish(mark[len(_NEW) :])
            if mark == stored:
                break
        if mark != stored:
            raise DataLostError(f"{_what_is_lost(mark, stored)} {_RENEW}")
        if mark is None and make:
            # Several processes may come here at once: one's id is taken by all.
            with translated():
                self._client.set(INSTALLATION, _NEW + new_job_id(), nx=True)
            return self.compare(make=False)
        return mark

    def renew(self) -> str:
        """Give both a new id in place of any earlier one; return it."""
        mark = new_job_id()
        with translated():
            self._client.set(INSTALLATION, _NEW + mark)
        return self._finish(mark)

    def _finish(self, mark: str) -> str:
        self._objects.put(OBJECT, mark.encode())
        with translated():
            self._client.set(INSTALLATION, mark, xx=True)  # unless Redis was emptied meanwhile
        return mark

    def _read_redis(self) -> str | None:
        with translated():
            return cast("str | None", self._client.get(INSTALLATION))

    def _read_storage(self) -> str | None:
        try:
            return self._objects.get(OBJECT).decode("ascii", "replace")
        except ObjectNotFoundError:
            return None


def everything_lost() -> DataLostError:
    """Return the error for a process whose Redis and storage have both lost their marks."""
    return DataLostError(f"Redis and storage have both lost the data of this installation. {_RENEW}")


def _what_is_lost(mark: str | None, stored: str | None) -> str:
    if mark is None or mark.startswith(_NEW):
        return (
            "Redis has lost its data, or is another one than before: storage holds images of an installation "
            "that Redis knows nothing of. Its jobs, results, ledger and API keys are missing."
        )
    if stored is None:
        return (
            "Storage has lost its data, or is another bucket than before: Redis holds jobs of an "
            "installation that storage knows nothing of. Its images are missing."
        )
    return "Redis and storage hold data of two different installations, so one of them is the wrong one."
