"""Errors of the local stack, each with a sentence for the person who started it."""

from core.errors import WastestreamError


class StackError(WastestreamError):
    """Base class: the stack cannot run."""


class FolderError(StackError):
    """Raised when the data folder cannot be used."""


class FolderBusyError(FolderError):
    """Raised when another supervisor uses the data folder."""


class FolderFullError(FolderError):
    """Raised when the disk of the data folder is full; that may pass."""


class DamagedFileError(StackError):
    """Raised when one of Redis' files has damage other than an unfinished write at its end."""


class PortInUseError(StackError):
    """Raised when a port that a process needs is taken."""


class StartError(StackError):
    """Raised when a process ends, or does not become ready, during the start of the stack."""


class InterruptedStartError(StackError):
    """Raised when the stack receives a stop signal before it is ready."""
