"""api.ingest.admission: one rejection stands for the uploads that follow at once."""

from __future__ import annotations

import weakref

import pytest

from api.ingest.admission import SHED_SECONDS, Admission
from core.errors import QueueFullError, RedisFullError
from core.lanes import BULK, SINGLE


@pytest.mark.parametrize("why", [QueueFullError("full", 3), RedisFullError("no memory")])
def test_uploads_are_rejected_for_a_moment_after_one_was(
    monkeypatch: pytest.MonkeyPatch, why: QueueFullError | RedisFullError
) -> None:
    """With the same words, and no longer than the moment."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    admission = Admission()
    admission.check_lane(BULK)
    admission.shed(BULK, why)
    now += SHED_SECONDS * 0.9
    with pytest.raises(type(why), match=str(why)) as caught:
        admission.check_lane(BULK)
    assert vars(caught.value) == vars(why)
    now += SHED_SECONDS * 0.2
    admission.check_lane(BULK)


class _Upload:
    """Stands for an upload's bytes, which cannot be watched themselves."""


def _accept(upload: _Upload) -> None:
    raise QueueFullError("full", 3)


def _rejected(admission: Admission) -> weakref.ref[_Upload]:
    upload = _Upload()
    try:
        _accept(upload)
    except QueueFullError as error:
        admission.shed(SINGLE, error)
    return weakref.ref(upload)


def test_a_rejected_upload_is_not_kept_in_memory() -> None:
    """The remembered rejection does not keep the upload in memory."""
    admission = Admission()
    upload = _rejected(admission)
    assert upload() is None
    with pytest.raises(QueueFullError):
        admission.check_lane(SINGLE)
