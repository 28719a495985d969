"""Sign-in of the page."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from api.schemas.base import Input, Output
from core.redis.api_keys import MAX_KEY_LENGTH, Scope


class SignIn(Input):
    """API key with which the page signs in."""

    key: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_KEY_LENGTH),
        Field(description="API key.", examples=["ws_..."], json_schema_extra={"pattern": r"\S"}),
    ]


class SessionKey(Output):
    """Key of a call."""

    name: Annotated[str, Field(description="Name of the key.", examples=["page"])]
    scopes: Annotated[list[Scope], Field(description="Scopes of the key.", examples=[["ingest", "read"]])]


class Session(Output):
    """Access of this call: whether calls need a key, and its key."""

    required: Annotated[bool, Field(description="Whether calls need a key.", examples=[True])]
    key: Annotated[SessionKey | None, Field(description="Key of this call; null without one.")]
    cameras: Annotated[
        list[str] | None,
        Field(
            description="Cameras that the key is bound to, as ids in which `*` stands for any characters; "
            "null for all.",
            examples=[["belt-1", "line2-*"]],
        ),
    ]
