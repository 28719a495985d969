"""A job as the API shows it."""

from __future__ import annotations

from typing import Any

from api.schemas.times import optional_timestamp, timestamp
from core.ids import accepted_ms
from core.jobs import Job, Prediction
from core.redis.eta import Place


def job_document(job: Job) -> dict[str, Any]:
    """Return a job without its place in the queue."""
    return {
        "id": job.id,
        "state": job.state.value,
        "camera": job.camera,
        "captured_at": optional_timestamp(job.captured_ms),
        "accepted_at": timestamp(accepted_ms(job.id)),
        "expires_at": optional_timestamp(job.expires_ms),
        "settled_at": optional_timestamp(job.settled_ms),
        "prediction": None if job.prediction is None else _prediction(job.prediction, job.model),
        "error": job.error,
        "retry_of": job.retry_of,
    }


def queued_document(job: Job, place: Place | None) -> dict[str, Any]:
    """Return a job with its place in the queue, None if it has settled."""
    queue = None if place is None else {"ahead": place.ahead, "eta_seconds": place.eta_seconds}
    return {**job_document(job), "queue": queue}


def _prediction(prediction: Prediction, model: str | None) -> dict[str, Any]:
    return {
        "label": prediction.label,
        "probability": round(prediction.probability, 6),
        "review": prediction.review,
        "model": model,
    }
