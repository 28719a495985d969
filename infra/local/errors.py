"""What can go wrong while the stack is started, each with a sentence for the person who started it."""

from core.errors import WastestreamError


class StackError(WastestreamError):
    """Base class: the stack cannot run."""


class FolderError(StackError):
    """Raised when the data folder cannot be used."""


class FolderBusyError(FolderError):
    """Raised when another supervisor uses the data folder."""


class FolderFullError(FolderError):
    """Raised when nothing more can be written to the data folder; that may pass."""


class DamagedFileError(StackError):
    """Raised when one of Redis' files is damaged and cutting off an unfinished write does not mend it."""


class PortInUseError(StackError):
    """Raised when a port that a process needs is taken."""


class StartError(StackError):
    """Raised when a process ends, or does not get ready, while the stack is being started."""


class InterruptedStartError(StackError):
    """Raised when the stack is told to stop before it is ready."""
