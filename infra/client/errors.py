"""What can end a whole `classify`, rather than one image of it."""

from __future__ import annotations

from core.errors import WastestreamError


class CollectError(WastestreamError):
    """Raised when a path that was named cannot be read, or holds no image."""


class ProxyError(WastestreamError):
    """Raised when the environment names a proxy that cannot be used."""


class RefusedError(WastestreamError):
    """Raised when the server refuses a call for good; the message is its own sentence."""


class KeyRefusedError(WastestreamError):
    """Raised when the server wants an API key, or another one than it was given."""


class GaveUpError(WastestreamError):
    """Raised when the server cannot be reached, or settles nothing, for longer than retry lasts."""


class NotWastestreamError(WastestreamError):
    """Raised when what answers at the address is some other server."""
