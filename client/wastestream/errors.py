"""Errors of the client itself. Rejections by the server are in `wastestream.problems`."""

from __future__ import annotations

from wastestream.jobs import Job


class WastestreamError(Exception):
    """Base class of every error of this package, except wrong arguments: those are `ValueError`."""


class ProxyError(WastestreamError):
    """Raised when the environment names an unusable proxy."""


class ImageError(WastestreamError):
    """Raised when an image cannot be read or is too large to send; nothing was sent."""


class GaveUpError(WastestreamError):
    """Raised when a call did not succeed, or no image settled, within the time of `Retry`.

    The last rejection by the server, if it was one, is its `__cause__`.

    Attributes:
        trouble: why the last try failed, as the begin of a sentence.
        retry_after: seconds after which the server asked to come back; None if it did not.
    """

    def __init__(self, text: str, trouble: str = "", retry_after: float | None = None) -> None:
        super().__init__(text, trouble, retry_after)
        self.trouble = trouble
        self.retry_after = retry_after

    def __str__(self) -> str:
        return str(self.args[0])


class NotSettledError(WastestreamError):
    """Raised when a job has not settled in time. The job goes on: ask for it later.

    Attributes:
        job: as it was last.
        timeout: the seconds.
    """

    def __init__(self, job: Job, timeout: float) -> None:
        super().__init__(job, timeout)
        self.job = job
        self.timeout = timeout

    def __str__(self) -> str:
        return f"Job {self.job.id} has not settled in {self.timeout:g} s; wait for it again, or cancel it."


class JobLostError(WastestreamError):
    """Raised when the server no longer knows an accepted job."""


class NotWastestreamError(WastestreamError):
    """Raised when another kind of server answers at the address.

    Attributes:
        server: its address.
        status: of its answer.
    """

    def __init__(self, server: str, status: int) -> None:
        super().__init__(server, status)
        self.server = server
        self.status = status

    def __str__(self) -> str:
        return f"{self.server} answers, but is not wastestream ({self.status}); check the address."
