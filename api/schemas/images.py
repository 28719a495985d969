"""Headers of uploads, and the outcome of a bulk upload."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field

from api.schemas.base import CAMERA_PATTERN, Input, Output
from api.schemas.jobs import QueuedJob
from api.schemas.problems import Problem

_FILE: Final = Field(description="File name of its part, or the name of its field.", examples=["a.jpg"])


class UploadHeaders(Input):
    """Header fields of an upload. `api.ingest.metadata` reads them."""

    camera: Annotated[
        str,
        Field(
            alias="X-Camera-Id",
            description="Camera that took the image: 1 to 64 bytes of letters and digits of any script, "
            "spaces and `. _ - : , ( ) @`, beginning with a letter or digit. Send characters beyond ASCII as "
            "UTF-8, raw or percent-encoded. It is stored in Unicode's composed form (NFC).",
            pattern=CAMERA_PATTERN,
            examples=["belt-1"],
        ),
    ] = "default"
    captured_at: Annotated[
        str | None,
        Field(
            alias="X-Captured-At",
            description="When the image was taken: RFC 3339 with zone, or seconds (9 or 10 digits) or "
            "milliseconds (12 or 13) since 1970, optionally with decimals; at most 5 minutes ahead of the "
            "server's clock.",
            json_schema_extra={
                "type": "string",
                "anyOf": [
                    {"format": "date-time"},
                    {"pattern": r"^([0-9]{9,10}|[0-9]{12,13})(\.[0-9]+)?$"},
                ],
            },
            examples=["2026-01-31T07:15:00Z"],
        ),
    ] = None
    max_age: Annotated[
        float | None,
        Field(
            alias="X-Max-Age",
            description="Seconds after which classifying the image is pointless, counted from "
            "`X-Captured-At`, or from acceptance without it. A job that is not classified by then settles "
            "`expired`.",
            gt=0,
            le=604_800,
        ),
    ] = None
    idempotency_key: Annotated[
        str | None,
        Field(
            alias="Idempotency-Key",
            description="The same key with the same camera, bytes and media types returns the same job and "
            "makes no second one, so a client that missed a response can repeat the call. Each API key has "
            "its own.",
            pattern=r"^[\x21-\x7e]{1,128}$",
            examples=["7c0c2a4e-6f0b-4d3c-9b52-0d8a5f1e7b11"],
        ),
    ] = None


class EncodedUploadHeaders(UploadHeaders):
    """Header fields of an upload whose body may be encoded. `api.http.encodings` reads them."""

    content_encoding: Annotated[
        Literal["gzip", "x-gzip", "deflate", "identity"] | None,
        Field(
            alias="Content-Encoding",
            description="Compression of the body. The limits apply before and after decompression.",
        ),
    ] = None
    transfer_encoding: Annotated[
        Literal["base64", "binary", "8bit", "7bit"] | None,
        Field(alias="Content-Transfer-Encoding", description="`base64`, if the body is base64 text."),
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

    file: Annotated[str, _FILE]
    status: Annotated[Literal[202], Field(description="As of a single upload.")]
    job: QueuedJob


class RejectedFile(Output):
    """Outcome of a file that was rejected."""

    file: Annotated[str, _FILE]
    status: Annotated[
        int, Field(description="Status that the file would have had alone.", ge=400, le=499, examples=[415])
    ]
    error: Problem


class BulkOutcome(Output):
    """Outcome of each file of a bulk upload."""

    items: Annotated[
        list[AcceptedFile | RejectedFile], Field(description="Outcomes, in the order of the files.")
    ]
