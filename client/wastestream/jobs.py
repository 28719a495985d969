"""Jobs as the server describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

State = Literal["queued", "classified", "failed", "expired", "cancelled"]
"""State of a job: `queued`, then once and for ever one of the others."""


@dataclass(frozen=True)
class Prediction:
    """The model's answer.

    Attributes:
        label: `biodegradable` or `non_biodegradable`.
        probability: of the label, calibrated, 0-1.
        review: whether it is too close to call, so that a person should look.
        model: version and sha256 of the model.
    """

    label: str
    probability: float
    review: bool
    model: str | None


@dataclass(frozen=True)
class Place:
    """A job's place in the queue.

    Attributes:
        ahead: jobs of its lane before it.
        eta_seconds: estimated seconds until it settles; None while the service rate is unknown.
    """

    ahead: int
    eta_seconds: float | None


@dataclass(frozen=True)
class Job:
    """One image's classification, as the server knew it at the time of the answer.

    Attributes:
        id: its id, a ULID.
        state: its state.
        camera: the camera's id.
        captured_at: when the picture was taken, if the sender said.
        accepted_at: when the server accepted the image.
        expires_at: when classifying it becomes pointless, if ever.
        settled_at: when it left the state `queued`.
        prediction: of a `classified` job; None also if the API key lacks the scope `read`.
        error: why it settled otherwise, a sentence.
        retry_of: id of the job that this one repeats.
        queue: its place; only in answers about one queued job, and to uploads.
    """

    id: str
    state: State
    camera: str
    captured_at: datetime | None
    accepted_at: datetime
    expires_at: datetime | None
    settled_at: datetime | None
    prediction: Prediction | None
    error: str | None
    retry_of: str | None = None
    queue: Place | None = None

    @property
    def settled(self) -> bool:
        """Whether its state is final."""
        return self.state != "queued"


def parse_job(document: Mapping[str, Any]) -> Job:
    """Return the job of a JSON document.

    Raises:
        KeyError, TypeError, ValueError: the document is not a job.
    """
    prediction, queue = document["prediction"], document.get("queue")
    return Job(
        id=document["id"],
        state=document["state"],
        camera=document["camera"],
        captured_at=optional_time(document["captured_at"]),
        accepted_at=parse_time(document["accepted_at"]),
        expires_at=optional_time(document["expires_at"]),
        settled_at=optional_time(document["settled_at"]),
        prediction=None
        if prediction is None
        else Prediction(
            prediction["label"], prediction["probability"], prediction["review"], prediction["model"]
        ),
        error=document["error"],
        retry_of=document.get("retry_of"),
        queue=None if queue is None else Place(queue["ahead"], queue["eta_seconds"]),
    )


def parse_time(text: str) -> datetime:
    """Return the time of an RFC 3339 text in UTC."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 does not know the Z.


def optional_time(text: str | None) -> datetime | None:
    """Return the time of an RFC 3339 text; None for None."""
    return None if text is None else parse_time(text)
