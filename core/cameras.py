"""Camera ids: names that are safe in Redis and object keys, MQTT topics, metrics, CSV and file names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import unquote_to_bytes

from core.errors import CameraIdError, CameraPatternError

DEFAULT_CAMERA: Final = "default"
"""Camera of an image without a camera id."""

MAX_LENGTH: Final = 64
"""Bytes of a camera id in UTF-8: with a job's id it must fit the 100 bytes of a name in a tar archive."""

_PUNCTUATION: Final = frozenset(" ._-:,()@")
# Never "/" (object keys), "+" and "#" (MQTT), "%" (escapes in headers), quotes and "\" (metrics).

_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Invisible characters (Unicode's Default_Ignorable_Code_Point), which make different ids look the same."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Ids in ASCII, which are most ids and need no further check."""

_WILDCARD: Final = "*"

_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def camera_id(text: str) -> str:
    """Return a camera id as it is stored: Unicode NFC, without spaces around it.

    Raises:
        CameraIdError: it is empty or too long, or holds a character that is not allowed.
    """
    if _PLAIN.fullmatch(text):
        return text
    name = unicodedata.normalize("NFC", text.strip(" "))
    if reason := _fault(name):
        raise CameraIdError(text, reason)
    return name


def camera_pattern(text: str) -> str:
    """Return a pattern of camera ids as it is stored; `*` stands for any characters, or none.

    Raises:
        CameraPatternError: no camera id can match it.
    """
    pattern = unicodedata.normalize("NFC", text.strip(" "))
    if reason := _fault(pattern.replace(_WILDCARD, "0")):
        raise CameraPatternError(text, reason)
    return pattern


def matches(camera: str, patterns: Iterable[str]) -> bool:
    """Return whether a camera id matches one of the patterns, from `camera_pattern`."""
    # The standard library's patterns cannot backtrack without end. Its other wildcards are in no id.
    return any(fnmatchcase(camera, pattern) for pattern in patterns)


def camera_id_in_header(value: str) -> str:
    """Return the camera id in an HTTP header's value, as WSGI gives it: bytes as Latin-1 text.

    The bytes are UTF-8 or Latin-1, or percent-encoded UTF-8, for clients that cannot send others than ASCII.

    Raises:
        CameraIdError: as `camera_id`.
    """
    if _PLAIN.fullmatch(value):
        return value
    return camera_id(_decoded(value))


def _fault(name: str) -> str | None:
    """Return why a text in NFC cannot be a camera's id; None if it can."""
    for character in name:
        # Letters, digits and the marks on them, in any script.
        if (unicodedata.category(character)[0] not in "LMN" and character not in _PUNCTUATION) or (
            _INVISIBLE.match(character)
        ):
            return f"it holds {_described(character)}"
    if not name:
        return "it is empty"
    if unicodedata.category(name[0])[0] not in "LN":
        return "it does not begin with a letter or digit"
    if len(name.encode()) > MAX_LENGTH:
        return f"it has {len(name.encode())} bytes"
    return None


def _decoded(value: str) -> str:
    if "%" in value and not _BROKEN_ESCAPE.search(value):
        try:
            return unquote_to_bytes(value.encode("latin-1", "replace")).decode()
        except UnicodeDecodeError:
            return value  # The percent sign is what is wrong with it.
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _described(character: str) -> str:
    seen = character.isprintable() and not _INVISIBLE.match(character)
    return repr(character) if seen else f"U+{ord(character):04X}"
