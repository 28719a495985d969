"""Client of a wastestream server: `Client`, and `AsyncClient` for asyncio."""

from wastestream import problems
from wastestream.async_client import AsyncClient
from wastestream.calls import Query, Retried
from wastestream.cameras import Camera, CameraState
from wastestream.client import Client
from wastestream.errors import (
    GaveUpError,
    ImageError,
    JobLostError,
    NotSettledError,
    NotWastestreamError,
    ProxyError,
    WastestreamError,
)
from wastestream.images import Image
from wastestream.jobs import Job, Place, Prediction, State
from wastestream.ledger import Counts, GatewayCounts, Ledger, Row
from wastestream.many import Outcome
from wastestream.problems import ApiError, KeyRejectedError
from wastestream.progress import Progress
from wastestream.retry import Retry
from wastestream.version import __version__

__all__ = [
    "ApiError",
    "AsyncClient",
    "Camera",
    "CameraState",
    "Client",
    "Counts",
    "GatewayCounts",
    "GaveUpError",
    "Image",
    "ImageError",
    "Job",
    "JobLostError",
    "KeyRejectedError",
    "Ledger",
    "NotSettledError",
    "NotWastestreamError",
    "Outcome",
    "Place",
    "Prediction",
    "Progress",
    "ProxyError",
    "Query",
    "Retried",
    "Retry",
    "Row",
    "State",
    "WastestreamError",
    "__version__",
    "problems",
]
