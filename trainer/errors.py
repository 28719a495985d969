"""Errors of the trainer, each with a sentence for the person who started it."""

from core.errors import ModelError, SettingsError, WastestreamError


class ConfigError(SettingsError):
    """Raised when the training configuration is unreadable or has an invalid value."""


class DatasetError(WastestreamError):
    """Raised when the data is missing, is not an image set, or lacks one of the classes."""


class WeightsError(WastestreamError):
    """Raised when the initial weights are missing or belong to another architecture."""


class OutputError(WastestreamError):
    """Raised when the output exists, cannot be written, or has no run to resume."""


class CheckpointError(WastestreamError):
    """Raised when a checkpoint is damaged or belongs to another configuration or other data."""


class DivergedError(WastestreamError):
    """Raised when the training loss stops being a number."""


class ParityError(ModelError):
    """Raised when the exported graph does not reproduce the trained network's probabilities."""


class TrainingInterrupted(WastestreamError):  # noqa: N818 - a request, not a failure
    """Raised after Ctrl-C, once the checkpoint is safe on disk."""
