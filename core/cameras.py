"""Camera ids."""

from __future__ import annotations

import re
from typing import Final

DEFAULT_CAMERA: Final = "default"
"""Camera of an image that names none."""

CAMERA_RULE: Final = "use 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
"""What a camera id is, for messages."""

_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_camera_id(text: str) -> bool:
    """Return whether `text` can be a camera's id: safe in a key, a URL and a file name."""
    return _PATTERN.fullmatch(text) is not None
