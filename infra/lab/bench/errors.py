"""What ends a measurement, each with a sentence for the person who started it."""

from core.errors import WastestreamError


class BenchError(WastestreamError):
    """Base class: there is nothing to measure, or nowhere to write to."""


class BrokenPipelineError(BenchError):
    """Raised when images are refused, lost, counted wrongly or not classified: figures would mean nothing."""
