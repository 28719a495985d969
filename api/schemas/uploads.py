"""Direct uploads: announcements, presigned URLs, and outcomes."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from api.schemas.base import WHOLE, CameraId, Input, Output, Timestamp
from api.schemas.jobs import QueuedJob
from api.schemas.problems import Problem
from core.image_header import MAX_BYTES

MAX_UPLOADS: Final = 1000
"""Maximum uploads in one call."""

_EXAMPLE: Final = "wS0c1rVq2..."

UploadId = Annotated[str, Field(description="Id of a direct upload: an opaque text.", examples=[_EXAMPLE])]


class AnnouncedFile(Input):
    """An image that the client is going to put into storage. Members except the first two may be null."""

    size: Annotated[
        int,
        Field(strict=True, description="Bytes of the image.", ge=1, le=MAX_BYTES, examples=[5281]),
        WHOLE,
    ]
    media_type: Annotated[
        Literal["image/jpeg", "image/png", "image/webp"], Field(description="Type of the image.")
    ]
    camera: Annotated[
        CameraId | None,
        Field(description="Camera that took the image, as `X-Camera-Id`.", examples=["belt-1"]),
    ] = None
    captured_at: Annotated[
        str | None,
        Field(
            description="When the image was taken, as `X-Captured-At`.",
            json_schema_extra={"format": "date-time"},
            examples=["2026-01-31T07:15:00Z"],
        ),
    ] = None
    max_age: Annotated[
        float | None,
        Field(
            strict=True,
            description="Seconds after which classifying the image is pointless, counted from "
            "`captured_at`, or from this call without it.",
            gt=0,
            le=604_800,
            examples=[60],
        ),
    ] = None
    idempotency_key: Annotated[
        str | None,
        Field(
            description="The same key with the same camera, size and type gives the same job.",
            pattern=r"^[\x21-\x7e]{1,128}$",
            examples=["7c0c2a4e-6f0b-4d3c-9b52-0d8a5f1e7b11"],
        ),
    ] = None


class Announcements(Input):
    """Images that the client is going to put into storage."""

    files: Annotated[
        list[AnnouncedFile],
        Field(
            description="The images.",
            min_length=1,
            json_schema_extra={"maxItems": MAX_UPLOADS},  # The route names the number sent.
            examples=[[{"size": 250_000, "media_type": "image/jpeg", "camera": "belt-1"}]],
        ),
    ]


class UploadSlot(Output):
    """Presigned URL for one image."""

    id: UploadId
    method: Literal["PUT"] = "PUT"
    url: Annotated[
        str,
        Field(
            description="Presigned URL. Anyone with it can put this image, so keep it secret.",
            json_schema_extra={"format": "uri"},
            examples=["https://s3.example.com/wastestream/images/_direct/2026/01/31/x.jpeg?X-Amz-..."],
        ),
    ]
    headers: Annotated[
        dict[str, str],
        Field(
            description="Header fields to send. `Content-Length` must be the size announced, so no chunks.",
            examples=[{"Content-Type": "image/jpeg"}],
        ),
    ]
    expires_at: Annotated[
        Timestamp,
        Field(description="When the URL expires. The upload can be completed for 15 more minutes."),
    ]


class UploadSlots(Output):
    """Presigned URLs for the images."""

    uploads: Annotated[list[UploadSlot], Field(description="In the order of the files.")]


class Completion(Input):
    """Uploads whose images are in storage."""

    uploads: Annotated[
        list[UploadId],
        Field(
            description="Ids from `POST /v1/uploads`.",
            min_length=1,
            json_schema_extra={"maxItems": MAX_UPLOADS},
            examples=[[_EXAMPLE]],
        ),
    ]


class AcceptedUpload(Output):
    """Outcome of an upload that was accepted."""

    upload: UploadId
    status: Literal[202] = 202
    job: QueuedJob


class RejectedUpload(Output):
    """Outcome of an upload that was rejected."""

    upload: UploadId
    status: Annotated[int, Field(description="Status of the error.", ge=400, le=499, examples=[409])]
    error: Problem


class UploadOutcomes(Output):
    """Outcome of each upload."""

    items: Annotated[
        list[AcceptedUpload | RejectedUpload], Field(description="Outcomes, in the order of the ids.")
    ]
