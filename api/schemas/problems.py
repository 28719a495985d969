"""A problem document as the API shows it (RFC 9457)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.schemas.base import Output


class Problem(Output):
    """The cause of an error, and the remedy."""

    type: Annotated[
        str,
        Field(
            description="Address of the explanation of this type of problem; stable, so compare this.",
            json_schema_extra={"format": "uri-reference"},
            examples=["/problems/unsupported-image"],
        ),
    ]
    title: Annotated[str, Field(description="Name of the type.", examples=["Unsupported image"])]
    status: Annotated[int, Field(description="Status of the response, or of one file.", examples=[415])]
    detail: Annotated[
        str,
        Field(
            description="Cause and remedy, for people; may change.",
            examples=["The bytes are not a JPEG, PNG or WebP image; send one of those."],
        ),
    ]
    oldest: Annotated[
        str | None,
        Field(
            description="With `/problems/cursor-expired`: the cursor before the oldest results that are kept."
        ),
    ] = None
    request_id: Annotated[
        str | None,
        Field(
            description="`X-Request-ID` of the response; absent in the problems of single files.",
            examples=["8c1f0e6d2b7a4935"],
        ),
    ] = None
