"""api.schemas.jobs: a job as the API shows it."""

from __future__ import annotations

from api.schemas import jobs as schemas
from core.jobs import Job, JobState, Prediction
from core.redis.eta import Place


def test_a_settled_job_shows_its_prediction() -> None:
    """The JSON carries times in UTC and the prediction with the model that made it."""
    job = Job(
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "belt",
        "jpeg",
        9,
        state=JobState.CLASSIFIED,
        settled_ms=1469922850260,
        prediction=Prediction("biodegradable", 0.98765432, review=False),
        model="1+ab",
    )
    document = schemas.Job.of(job).model_dump(mode="json")
    assert document["accepted_at"] == "2016-07-30T23:54:10.259Z"
    assert document["settled_at"] == "2016-07-30T23:54:10.260Z"
    assert document["captured_at"] is None
    assert document["prediction"] == {
        "label": "biodegradable",
        "probability": 0.987654,
        "review": False,
        "model": "1+ab",
    }
    queued = schemas.QueuedJob.at(job, None).model_dump(mode="json")
    assert queued == {**document, "queue": None}


def test_a_queued_job_shows_its_place() -> None:
    """Without an estimate as long as there is none."""
    job = Job("01ARZ3NDEKTSV4RRFFQ69G5FAV", "belt", "jpeg", 9)
    document = schemas.QueuedJob.at(job, Place(2, None)).model_dump(mode="json")
    assert (document["state"], document["prediction"]) == ("queued", None)
    assert document["queue"] == {"ahead": 2, "eta_seconds": None}
