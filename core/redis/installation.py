"""The mark of the installation: one random id, in Redis and in storage.

Redis that has lost everything looks like a new one, as storage does: without jobs the ledger balances, and
without API keys everyone is let in. But only a new installation has a mark on neither side.
"""

from __future__ import annotations

from typing import Final, cast

import redis

from core.errors import BackupError, DataLostError, ObjectNotFoundError
from core.ids import new_job_id
from core.redis.client import translated
from core.redis.keys import INSTALLATION
from core.storage import ObjectStore

OBJECT: Final = ".installation"
"""Object in storage that holds the id."""

_NEW: Final = "new "  # before the id in Redis, until storage has it too

RESTORING: Final = "restoring"
RECOVERING: Final = "recovering"
_UNFINISHED: Final = {
    RESTORING: (
        "A backup is being restored, or its restoration was cut off: wait, or run `wastestream restore` with "
        "the same backup again. Until then the API is closed."
    ),
    RECOVERING: (
        "Jobs are being recovered, or their recovery was cut off: wait, or run `wastestream recover` again. "
        "Until then the API is closed."
    ),
}
"""Work that fills an empty Redis, and the sentence about it. Redis' mark is its name and an id until it is
complete."""

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
        return None if mark is None or " " in mark else mark

    def compare(self, *, make: bool) -> str | None:
        """Return the id if both have the same.

        Args:
            make: whether to make one where neither has one; else None is returned for that.

        Raises:
            DataLostError: one of them has lost its data, or they belong to different installations.
        """
        for _ in range(2):  # Somebody may have been making the mark between the two readings.
            mark, stored = self._read_redis(), self.stored()
            if mark is not None and mark.startswith(_NEW) and stored in {None, mark[len(_NEW) :]}:
                return self._finish(mark[len(_NEW) :])
            if mark == stored:
                break
        if mark is not None and (sentence := _UNFINISHED.get(mark.partition(" ")[0])):
            raise DataLostError(sentence)
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

    def begin(self, work: str) -> str:
        """Close the installation while `RESTORING` or `RECOVERING` fills Redis, which must have no mark.

        Returns:
            The new id that both sides get by `complete`; the same one after work that was cut off.

        Raises:
            BackupError: Redis belongs to an installation, or other work fills it.
        """
        with translated():
            self._client.set(INSTALLATION, f"{work} {new_job_id()}", nx=True)
        begun, _, mark = (self._read_redis() or "").partition(" ")
        if begun == work:
            return mark
        raise BackupError(
            _UNFINISHED.get(begun) or "Redis belongs to an installation already: name an empty one."
        )

    def store(self, mark: str) -> None:
        """Give storage the id that `begin` returned. The installation opens when Redis has it, too."""
        self._objects.put(OBJECT, mark.encode())

    def complete(self, mark: str) -> None:
        """Give both sides the id that `begin` returned: the installation opens."""
        self._finish(mark)

    def _finish(self, mark: str) -> str:
        self.store(mark)
        with translated():
            self._client.set(INSTALLATION, mark, xx=True)  # unless Redis was emptied meanwhile
        return mark

    def _read_redis(self) -> str | None:
        with translated():
            return cast("str | None", self._client.get(INSTALLATION))

    def stored(self) -> str | None:
        """Return the id that storage has; None if it has none."""
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
            "that Redis knows nothing of. Its jobs, results, ledger and API keys are missing: restore a "
            "backup, or run `wastestream recover`, which makes jobs of the images."
        )
    if stored is None:
        return (
            "Storage has lost its data, or is another bucket than before: Redis holds jobs of an "
            "installation that storage knows nothing of. Its images are missing."
        )
    return "Redis and storage hold data of two different installations, so one of them is the wrong one."
