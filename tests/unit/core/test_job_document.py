"""core.job_document: the two ways of writing a settled job agree."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from core.ids import new_job_id
from core.job_document import job_document, job_json
from core.jobs import Job, JobState, Prediction

_TIMES = st.none() | st.integers(0, 4_000_000_000_000)
_PREDICTIONS = st.none() | st.builds(Prediction, st.text(), st.floats(0, 1), st.booleans())


@given(
    st.text(), _TIMES, _TIMES, _TIMES, _PREDICTIONS, st.none() | st.text(), st.none() | st.just(new_job_id())
)
def test_the_text_is_that_of_the_document(
    text: str,
    captured_ms: int | None,
    expires_ms: int | None,
    settled_ms: int | None,
    prediction: Prediction | None,
    error: str | None,
    retry_of: str | None,
) -> None:
    """Whatever is in it, quotes and line ends too."""
    job = Job(
        new_job_id(),
        text,
        "jpeg",
        1,
        captured_ms=captured_ms,
        expires_ms=expires_ms,
        settled_ms=settled_ms,
        state=JobState.CLASSIFIED,
        prediction=prediction,
        model=error,
        error=error,
        retry_of=retry_of,
    )
    written = job_json(job)
    assert written == json.dumps(job_document(job), ensure_ascii=False, separators=(",", ":"))
    assert "\n" not in written
