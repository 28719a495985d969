"""Long polling, `?wait=SECONDS`: a response as soon as a job settles."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Final

from flask import request

from api.auth.policy import caller
from api.http.problems import RequestError
from api.http.timestamps import parse_number
from api.services import services
from core.jobs import Job

MAX_WAIT: Final = 30.0
"""Maximum seconds that a request waits for its job."""

MAY_WAIT: Final = "wastestream.may_wait"
"""Variable of the environment: whether the request runs in a thread that may wait."""

_RETRY_AFTER: Final = 1  # seconds, in responses that came early


def wait_seconds() -> float:
    """Return the seconds that the current request wants to wait.

    Raises:
        RequestError: 400, `wait` is not a number, or out of range.
    """
    text = request.args.get("wait", "0")
    seconds = parse_number(text)
    if seconds is None or seconds > MAX_WAIT:
        raise RequestError(
            HTTPStatus.BAD_REQUEST,
            f"wait={text[:20]} is not a number from 0 to {MAX_WAIT:.0f}; send the seconds to wait.",
        )
    return seconds


def read_visible(job_id: str) -> Job | None:
    """Return a job that the caller may see, or None."""
    return caller().visible(services().jobs.read(job_id))


def wait_settled(job_id: str, seconds: float) -> tuple[Job | None, dict[str, str]]:
    """Return the job as soon as it has settled, or after `seconds`, and headers for the response.

    The job is None if it is unknown to the caller. The headers have `Retry-After` if too many requests wait
    already, so that the client does not poll at full speed.
    """
    began = time.monotonic()
    timeout = seconds if request.environ.get(MAY_WAIT, True) else 0.0
    job = services().job_events.wait_settled(job_id, read_visible, timeout)
    early = job is not None and not job.state.terminal and time.monotonic() - began < seconds
    return job, {"Retry-After": str(_RETRY_AFTER)} if early else {}
