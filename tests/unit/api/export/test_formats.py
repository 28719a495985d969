"""api.export.formats: columns of tables."""

from __future__ import annotations

from api.export.formats import COLUMNS
from core.ids import new_job_id
from core.job_document import job_document
from core.jobs import Job, JobState, Prediction


def test_tables_have_a_column_for_each_member_of_a_job() -> None:
    """A new member of the document cannot be left out of CSV and Parquet without a word."""
    prediction = Prediction("biodegradable", 0.9, review=False)
    job = Job(new_job_id(), "belt", "jpeg", 1, state=JobState.CLASSIFIED, prediction=prediction, model="m")
    document = job_document(job)
    members = {**document, **document["prediction"]}
    del members["prediction"]
    assert sorted(COLUMNS) == sorted(members)
