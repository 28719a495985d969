"""Errors that end a benchmark, each with a sentence for the person who started it."""

from core.errors import WastestreamError


class BenchError(WastestreamError):
    """Base class: the benchmark has no input or no disk space, or a process does not start."""


class BrokenPipelineError(BenchError):
    """Raised when images are rejected, lost, miscounted or not classified: the figures would mean nothing."""
