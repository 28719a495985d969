"""Headers of uploads, and the outcome of a bulk upload."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from api.schemas.base import Input, Output
from api.schemas.jobs import QueuedJob
from api.schemas.problems import Problem


class UploadHeaders(Input):
    """Header fields of an upload. `api.ingest.metadata` reads them."""

    camera: Annotated[
        str,
        Field(
            alias="X-Camera-Id",
            description="Camera that took the image: 1 to 64 bytes of letters and digits of any script, "
            "spaces and "
            "`. _ - : , ( ) @`, beginning with a letter or digit. Send characters beyond ASCII as UTF-8, "
            "raw or "
            "percent-encoded. It is stored in Unicode's composed form (NFC).",
            pattern=r"^[A-Za-z0-9]([A-Za-z0-9 ._:,()@-]{0,62}[A-Za-z0-9._:,()@-])?$",
            examples=["belt-1"],
        ),
    ] = "default"
    captured_at: Annotated[
        str | None,
        Field(
            alias="X-Captured-At",
            description="When the image was taken: RFC 3339 with zone, or seconds (9 or 10 digits) or "
            "milliseconds "
            "(12 or 13) since 1970, optionally with decimals; at most 5 minutes ahead of the server's clock.",
            json_schema_extra={"format": "date-time"},
            examples=["2026-01-31T07:15:00Z"],
        ),
    ] = None
    max_age: Annotated[
        float | None,
        Field(
            alias="X-Max-Age",
            description="Seconds after which classifying the image is pointless, counted from "
            "`X-Captured-At`, or "
            "from acceptance without it. A job that is not classified by then settles `expired`.",
            gt=0,
            le=604_800,
            examples=[60],
        ),
    ] = None
    idempotency_key: Annotated[
        str | None,
        Field(
            alias="Idempotency-Key",
            description="The same key with the same camera, bytes and media types returns the same job "
            "and makes no "
            "second one, so a client that missed a response can repeat the call. Each API key has its own.",
            pattern=r"^[\x21-\x7e]{1,128}$",
            examples=["7c0c2a4e-6f0b-4d3c-9b52-0d8a5f1e7b11"],
        ),
    ] = None


class FileMetadata(Input):
    """Metadata of one file of a bulk upload. Where a member is absent or null, the header field counts."""

    model_config = ConfigDict(strict=True)

    camera: Annotated[
        str | None, Field(description="Camera that took the image, instead of `X-Camera-Id`.")
    ] = None
    captured_at: Annotated[
        str | None,
        Field(description="When the image was taken, written like `X-Captured-At`, which it replaces."),
    ] = None
    max_age: Annotated[
        float | None,
        Field(description="Seconds, instead of `X-Max-Age`.", allow_inf_nan=False),
    ] = None
    idempotency_key: Annotated[
        str | None,
        Field(
            description="Idempotency key of this file alone: the same key with the same camera, bytes and "
            "media type returns the same job, also in another call. Not together with `Idempotency-Key`.",
        ),
    ] = None


class BulkMetadata(Input):
    """Metadata of the files of a bulk upload, in a part `metadata` before them."""

    model_config = ConfigDict(strict=True)

    files: Annotated[
        list[FileMetadata],
        Field(
            description="An entry for each file, in order.",
            examples=[[{"camera": "belt-1", "captured_at": "2026-01-31T07:15:00Z", "max_age": 60}, {}]],
        ),
    ]


class Conditional(Input):
    """Header fields of a browser that may have the image."""

    etag: Annotated[
        str | None,
        Field(alias="If-None-Match", description="`ETag` of an earlier response.", examples=['"..."']),
    ] = None


class AcceptedFile(Output):
    """Outcome of a file that was accepted."""

    file: Annotated[str, Field(description="File name of its part, or the name of its field.")]
    status: Literal[202]
    job: QueuedJob


class RejectedFile(Output):
    """Outcome of a file that was rejected."""

    file: Annotated[str, Field(description="File name of its part, or the name of its field.")]
    status: Annotated[int, Field(description="Status that the file would have had alone.", ge=400, le=499)]
    error: Problem


class BulkOutcome(Output):
    """Outcome of each file of a bulk upload."""

    items: Annotated[
        list[AcceptedFile | RejectedFile], Field(description="Outcomes, in the order of the files.")
    ]
