"""Errors that end a whole `classify`, except `RejectedError`, which concerns one call."""

from __future__ import annotations

from core.errors import WastestreamError


class CollectError(WastestreamError):
    """Raised when a named path cannot be read or contains no image."""


class ProxyError(WastestreamError):
    """Raised when the environment names an unusable proxy."""


class RejectedError(WastestreamError):
    """Raised when the server rejects a call and a retry is useless; the message is the server's."""


class KeyRejectedError(WastestreamError):
    """Raised when the server requires an API key, or another key."""


class GaveUpError(WastestreamError):
    """Raised when the server is unreachable, or settles no image, for longer than the retry time."""


class NotWastestreamError(WastestreamError):
    """Raised when another kind of server answers at the address."""
