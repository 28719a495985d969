"""Result of one image."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any, Final

from infra.cli.collect import Source
from wastestream import Job

CLASSIFIED: Final = "classified"
FAILED: Final = "failed"
QUEUED: Final = "queued"

_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Result:
    """Result of one image.

    `state`: the job's; `failed` for a rejected image; None for an image that was never sent. `milliseconds`:
    from acceptance to settling, by the server's clock.
    """

    position: int
    file: str
    job: str | None = None
    state: str | None = None
    label: str | None = None
    probability: float | None = None
    review: bool | None = None
    model: str | None = None
    error: str | None = None
    milliseconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields that `--json` prints."""
        fields = asdict(self)
        del fields["position"], fields["milliseconds"]
        return fields


def settled(source: Source, job: Job) -> Result:
    """Return the result of a settled job."""
    result = Result(
        position=source.position,
        file=source.name,
        job=job.id,
        state=job.state,
        error=job.error,
        milliseconds=None if job.settled_at is None else (job.settled_at - job.accepted_at) / _MILLISECOND,
    )
    return result if job.prediction is None else replace(result, **asdict(job.prediction))


def failed(source: Source, error: str, job: str | None = None) -> Result:
    """Return the result of an image without a prediction, with a sentence on the cause."""
    return Result(source.position, source.name, job=job, state=FAILED, error=error)


def unfinished(source: Source, job: str | None, error: str) -> Result:
    """Return the result of an abandoned image: without a job it was not sent, otherwise not settled."""
    return Result(source.position, source.name, job=job, state=QUEUED if job else None, error=error)
