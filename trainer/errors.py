"""What can be wrong with the trainer's inputs, each said in one sentence."""

from core.errors import ModelError, SettingsError, WastestreamError


class ConfigError(SettingsError):
    """Raised when the training configuration cannot be read or holds a value that cannot work."""


class DatasetError(WastestreamError):
    """Raised when the data is missing, is not an image set, or lacks one of the classes."""


class WeightsError(WastestreamError):
    """Raised when the initial weights are missing or belong to another architecture."""


class OutputError(WastestreamError):
    """Raised when the output is taken or cannot be written, or there is nothing to resume."""


class CheckpointError(WastestreamError):
    """Raised when a checkpoint is damaged or belongs to another configuration or other data."""


class DivergedError(WastestreamError):
    """Raised when the training loss stops being a number."""


class ParityError(ModelError):
    """Raised when the exported graph does not reproduce the trained one's probabilities."""


class TrainingInterrupted(WastestreamError):  # noqa: N818 - the person asked for it; nothing went wrong
    """Raised after Ctrl-C, once the checkpoint is safe on disk."""
