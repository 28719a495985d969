"""Filters that several calls share: camera and time of acceptance."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.schemas.base import CameraId, Input, Moment
from core.times import written


class AcceptancePeriod(Input):
    """Images of one camera or all, accepted in a period."""

    camera: Annotated[CameraId | None, Field(description="Only this camera.", examples=["belt-1"])] = None
    first: Annotated[
        Moment | None,
        Field(
            alias="from",
            description="Begin of the period of acceptance: a date (midnight UTC), or an RFC 3339 time with "
            "zone. Default: 24 hours before `to`.",
            examples=["2026-01-31T07:00:00Z"],
        ),
    ] = None
    last: Annotated[
        Moment | None,
        Field(
            alias="to",
            description="End of the period, not included, written like `from`. Default: now.",
            examples=["2026-01-31T08:00:00Z"],
        ),
    ] = None

    def check(self) -> None:
        """Check the order of the times.

        Raises:
            ValueError: `from` is not before `to`.
        """
        if self.first and self.last and self.first >= self.last:
            raise ValueError(
                f"from={written(self.first)} is not before to={written(self.last)}; send an earlier from."
            )
