"""A settled job as JSON: the same members in the API, in webhooks, over MQTT and in the archive."""

from __future__ import annotations

from typing import Any

from core.ids import accepted_ms
from core.jobs import Job
from core.times import optional_timestamp, timestamp


def job_document(job: Job) -> dict[str, Any]:
    """Return the members of a job's JSON document, in their order. `api.schemas.jobs.Job` describes them."""
    return {
        "id": job.id,
        "state": job.state.value,
        "camera": job.camera,
        "captured_at": optional_timestamp(job.captured_ms),
        "accepted_at": timestamp(accepted_ms(job.id)),
        "expires_at": optional_timestamp(job.expires_ms),
        "settled_at": optional_timestamp(job.settled_ms),
        "prediction": _prediction(job),
        "error": job.error,
        "retry_of": job.retry_of,
    }


def _prediction(job: Job) -> dict[str, Any] | None:
    if job.prediction is None:
        return None
    return {
        "label": job.prediction.label,
        "probability": round(job.prediction.probability, 6),
        "review": job.prediction.review,
        "model": job.model,
    }
