"""Errors of the gateway."""

from __future__ import annotations

from wastestream.errors import WastestreamError


class ConfigError(WastestreamError):
    """Raised when the configuration is unusable; one sentence for each mistake, a line each."""


class SpoolError(WastestreamError):
    """Raised when the spool's folder cannot be used."""


class SourceError(WastestreamError):
    """Raised when a source cannot be opened or read; never with a password of its address."""


class TriggerError(WastestreamError):
    """Raised when a camera has no frame for a trigger."""
