"""api.ingest.gate: one refusal stands for those that follow at once."""

from __future__ import annotations

import weakref

import pytest

from api.ingest.gate import SHUT_SECONDS, Gate
from core.errors import QueueFullError, RedisFullError
from core.lanes import BULK, SINGLE


@pytest.mark.parametrize("why", [QueueFullError("full", 3), RedisFullError("no memory")])
def test_uploads_are_refused_for_a_moment_after_one_was(
    monkeypatch: pytest.MonkeyPatch, why: QueueFullError | RedisFullError
) -> None:
    """With the same words, and no longer than the moment."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    shut = Gate()
    shut.check(BULK)
    shut.shut(BULK, why)
    now += SHUT_SECONDS * 0.9
    with pytest.raises(type(why), match=str(why)) as found:
        shut.check(BULK)
    assert vars(found.value) == vars(why)
    now += SHUT_SECONDS * 0.2
    shut.check(BULK)


class _Upload:
    """Stands for an upload's bytes, which cannot be watched themselves."""


def _accept(upload: _Upload) -> None:
    raise QueueFullError("full", 3)


def _refused(gate: Gate) -> weakref.ref[_Upload]:
    upload = _Upload()
    try:
        _accept(upload)
    except QueueFullError as error:
        gate.shut(SINGLE, error)
    return weakref.ref(upload)


def test_a_refused_upload_is_not_kept_in_memory() -> None:
    """What is remembered does not hold what was refused."""
    gate = Gate()
    upload = _refused(gate)
    assert upload() is None
    with pytest.raises(QueueFullError):
        gate.check(SINGLE)
