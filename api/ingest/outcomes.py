"""Images that were sent, counted by outcome: the metric `wastestream_uploads_total`."""

from __future__ import annotations

from api.http.problems import type_of
from core.errors import WastestreamError
from core.metrics import UPLOADS
from core.redis.admission import Accepted


def count_accepted(lane: str, accepted: Accepted) -> None:
    """Count images that were accepted, now or before under the same idempotency key."""
    UPLOADS.add(lane, "known" if accepted.known else "accepted", by=len(accepted.ids))


def count_rejected(lane: str, error: WastestreamError, images: int = 1) -> None:
    """Count images that were rejected."""
    UPLOADS.add(lane, type_of(error).slug, by=images)
