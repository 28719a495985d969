"""`?wait=SECONDS`: answers that come the moment a job settles."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Final

from flask import request

from api.http.problems import RequestError
from api.http.timestamps import parse_number
from api.services import services
from core.jobs import Job

MAX_WAIT: Final = 30.0
"""Seconds that a request may wait for its job."""

MAY_WAIT: Final = "wastestream.may_wait"
"""Variable of the environment: False if the request's thread is none of those that may wait."""

_ASK_AGAIN: Final = 1  # seconds, for those answered before their time


def wait_seconds() -> float:
    """Return how long the current request wants to wait.

    Raises:
        RequestError: 400, that is no number or out of range.
    """
    text = request.args.get("wait", "0")
    seconds = parse_number(text)
    if seconds is None or seconds > MAX_WAIT:
        raise RequestError(
            HTTPStatus.BAD_REQUEST, f"wait={text[:20]} must be between 0 and {MAX_WAIT:.0f} seconds."
        )
    return seconds


def when_settled(job_id: str, seconds: float) -> tuple[Job | None, dict[str, str]]:
    """Return the job as soon as it has settled, or as it is after `seconds`; None if unknown.

    With it come headers for the answer: `Retry-After` if there was no place to wait, since a client that asks
    again at once, and again, takes the time from those for whom it waits.
    """
    deps = services()
    began = time.monotonic()
    timeout = seconds if request.environ.get(MAY_WAIT, True) else 0.0
    job = deps.waiters.settled(job_id, deps.jobs.read, timeout)
    early = job is not None and not job.state.terminal and time.monotonic() - began < seconds
    return job, {"Retry-After": str(_ASK_AGAIN)} if early else {}
