"""The part `metadata` of a bulk upload."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field


class FileMetadata(BaseModel):
    """What a client says of one file. Where a member is absent or null, the call's header counts."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    camera: str | None = Field(None, description="Camera id, instead of `X-Camera-Id`.")
    captured_at: str | None = Field(None, description="When it was taken, instead of `X-Captured-At`.")
    max_age: float | None = Field(None, description="Seconds, instead of `X-Max-Age`.", allow_inf_nan=False)
    idempotency_key: str | None = Field(None, description="Idempotency key of this file alone.")


class BulkMetadata(BaseModel):
    """The part itself: an entry for each file of the form, in order."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    files: Sequence[FileMetadata]
