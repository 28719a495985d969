"""Corrections of cameras' names: renames and forgets cameras in the ledger and in what gateways report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, cast

import redis

from core.errors import CameraBusyError, CameraExistsError, CameraNotFoundError
from core.hours import hour_of, hours_between
from core.redis import keys
from core.redis.client import translated
from core.redis.scripts import load_script

_TOUCHED: Final = (
    keys.CAMERAS,
    keys.LEDGERS,
    keys.CAMERA_KEYS,
    keys.KEY_CAMERAS,
    keys.CAMERAS_ABOUT,
    keys.CAMERA_REPORTS,
    keys.SAMPLED_ROWS,
)


class CameraNames:
    """Renames and forgets cameras, each in one atomic step.

    Jobs, results and images keep the name under which they were accepted: it is part of the images' keys, and
    sinks have carried it out. A sender that goes on with an old name brings the camera back.

    Every method raises `RedisUnavailableError` while Redis is down.

    Args:
        client: of Redis.
        retention: seconds for which counts of gateways are kept.
    """

    def __init__(self, client: redis.Redis, *, retention: float) -> None:
        self._client = client
        self._retention = round(retention)
        self._move = client.register_script(load_script("move_camera"))

    def forget(self, camera: str) -> int:
        """Forget a camera, its rows too; return how many images it had sent.

        Raises:
            CameraNotFoundError: there is none of this name.
            CameraBusyError: jobs of it have not settled.
        """
        return self._moved(camera, "", merge=False)

    def rename(self, camera: str, name: str, *, merge: bool = False) -> int:
        """Give a camera another name; return how many images it had sent.

        Args:
            camera: its name.
            name: its new name.
            merge: whether to add its counts to those of a camera that has the new name. The description and
                the report of that camera stay.

        Raises:
            CameraNotFoundError: there is none of this name.
            CameraBusyError: jobs of it have not settled.
            CameraExistsError: another camera has the new name, and they are not to be merged.
        """
        if camera == name:
            raise CameraExistsError(f"The camera already has the name {name!r}.")
        return self._moved(camera, name, merge=merge)

    def _moved(self, camera: str, name: str, *, merge: bool) -> int:
        with translated():
            answer = self._move(_TOUCHED, [camera, name, int(merge), self._retention, *self._hours()])
        match answer:
            case ["unknown"]:
                raise CameraNotFoundError(f"There is no camera {camera!r}; `GET /v1/cameras` lists them.")
            case ["exists"]:
                raise CameraExistsError(
                    f"There is a camera {name!r} already; send another name, or add the counts of {camera!r} "
                    "to its counts with merge."
                )
        owed, received = cast(list[int], answer)
        if owed:
            raise CameraBusyError(
                f"{owed:,} images of the camera {camera!r} have not settled; wait for them, or cancel them."
            )
        return received

    def _hours(self) -> list[str]:
        """Return every hour in which a camera can have a row, also if it is made in this moment."""
        now = datetime.now(UTC)
        ends = [hour_of(now), hour_of(now + timedelta(hours=1))]
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for rows in (keys.LEDGERS, keys.SAMPLED_ROWS):
                pipe.zrange(rows, 0, 0)
                pipe.zrange(rows, -1, -1)
            ends += [name.partition(":")[0] for names in pipe.execute() for name in names]
        return list(hours_between(*ends))
