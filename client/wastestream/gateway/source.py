"""Sources: where a camera's frames come from, and how to write their addresses without passwords."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit


class Kind(Enum):
    """Kind of a source, which says how it is read."""

    RTSP = "rtsp"
    HTTP = "http"
    DEVICE = "device"
    FILE = "file"
    FOLDER = "folder"

    @property
    def live(self) -> bool:
        """Whether its frames come when they are captured, and are lost if nobody takes them."""
        return self in {Kind.RTSP, Kind.HTTP, Kind.DEVICE}


_SCHEMES: Final = {"rtsp": Kind.RTSP, "rtsps": Kind.RTSP, "http": Kind.HTTP, "https": Kind.HTTP}


@dataclass(frozen=True)
class Source:
    """A source. Its text is in no log: cameras have passwords in every part of their addresses.

    Attributes:
        address: an address, or a path.
        kind: how it is read.
    """

    address: str = field(repr=False)
    kind: Kind

    def __str__(self) -> str:
        if self.kind not in {Kind.RTSP, Kind.HTTP}:
            return self.address
        parts = urlsplit(self.address)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def parse_source(text: str, folder: Path = Path()) -> Source:
    """Return the source of an address or a path.

    Args:
        text: the address or path.
        folder: of relative paths.

    Raises:
        ValueError: it is none; the sentence has no password.
    """
    scheme, separator, _ = text.partition("://")
    if not separator:
        return _local(text, folder)
    kind = _SCHEMES.get(scheme.lower())
    if kind is None:
        raise ValueError(f"begins with {scheme[:20]}://; use rtsp://, http://, a file, a device or a folder")
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port beyond 65535
        usable = False
    if not usable:
        raise ValueError(f"is no address; write {scheme}://HOST/PATH")
    return Source(text, kind)


def _local(text: str, folder: Path) -> Source:
    if not text or "\0" in text:
        raise ValueError("is empty; use rtsp://, http://, a file, a device or a folder")
    path = folder / text
    if text.endswith("/") or path.is_dir():
        return Source(str(path), Kind.FOLDER)
    return Source(str(path), Kind.DEVICE if path.is_absolute() and path.parts[1] == "dev" else Kind.FILE)
