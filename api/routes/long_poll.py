"""Long polling, `?wait=SECONDS`: the response comes as soon as a job settles."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from flask import request

from api.auth.policy import caller
from api.services import services
from core.jobs import Job

MAY_WAIT: Final = "wastestream.may_wait"
"""Variable of the environment: whether the request runs in a thread that may wait."""

_RETRY_AFTER: Final = 1  # seconds, in responses that came early


def read_visible(job_id: str) -> Job | None:
    """Return a job that the caller may see, or None."""
    return caller().visible(services().jobs.read(job_id))


def wait_settled(job_id: str, seconds: float) -> tuple[Job | None, dict[str, str]]:
    """Return the job as soon as it has settled, or after `seconds`, and headers for the response.

    The job is None if it is unknown to the caller. The headers have `Retry-After` if too many requests wait
    already, so that the client does not poll at full speed.
    """
    began = time.monotonic()
    job = services().job_events.wait_settled(job_id, read_visible, _allowed(seconds))
    ready = job is None or job.state.terminal
    return job, _headers(began, seconds, ready=ready)


def wait_ready(read: Callable[[], bool], seconds: float) -> dict[str, str]:
    """Call `read` after jobs have settled until it returns true, or for `seconds`.

    Returns:
        Headers for the response, as `wait_settled`.
    """
    began = time.monotonic()
    ready = services().job_events.wait_any(services().recent, read, _allowed(seconds))
    return _headers(began, seconds, ready=ready)


def _allowed(seconds: float) -> float:
    return seconds if request.environ.get(MAY_WAIT, True) else 0.0


def _headers(began: float, seconds: float, *, ready: bool) -> dict[str, str]:
    early = not ready and time.monotonic() - began < seconds
    return {"Retry-After": str(_RETRY_AFTER)} if early else {}
