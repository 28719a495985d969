"""The version of this package, and of the server that it was released with."""

__version__ = "0.3.0"
