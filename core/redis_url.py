"""Redis' address: valid values of `WASTESTREAM_REDIS_URL`.

Two libraries read it, redis-py and kombu, and they differ on unusual ones. A URL that passes here means the
same to both (see `core.messages`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

TLS: Final = "rediss"
"""Scheme of the URLs of servers that speak TLS."""

_PARTS: Final = re.compile(
    r"rediss?://(?:[^/?#\[\]\s]*@)?"
    r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?(?:/\d*)?(?:\?(?P<options>[^@#]*))?"
)
_STRAY_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")

_MAX_PORT: Final = 65_535

_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_VALUES: Final = {
    "ssl_cert_reqs": ("required", "optional", "none"),
    "ssl_check_hostname": ("true", "false"),
}
_OPTIONS: Final = (*_FILES, "ssl_ca_path", *_VALUES)
"""Options after the question mark, by redis-py's names; all of them are about TLS."""

FORM: Final = (
    "write redis://USER:PASSWORD@HOST:PORT/DB, or rediss:// for TLS; in a password, percent-encode / ? # [ ] "
    "% and blanks (/ is %2F)"
)
"""Form of a URL, for messages."""


def check_redis_url(url: str) -> None:
    """Check that every program can use the URL.

    Raises:
        ValueError: it cannot be used; the message says why, and holds nothing of the password.
    """
    scheme = url.partition("://")[0].lower()
    if "sentinel" in scheme:
        raise ValueError("Redis Sentinel is not supported; name the primary itself, as redis://HOST:PORT/0")
    if "cluster" in scheme:
        raise ValueError("Redis Cluster is not supported; name one server, as redis://HOST:PORT/0")
    if "unix" in scheme or "socket" in scheme:
        raise ValueError(
            "socket files are not supported; let Redis listen on loopback: redis://127.0.0.1:6379/0"
        )
    parts = _PARTS.fullmatch(url)
    if parts is None or _STRAY_PERCENT.search(url) or not 1 <= int(parts["port"] or 1) <= _MAX_PORT:
        raise ValueError(FORM)
    _check_options(scheme, dict(parse_qsl(parts["options"] or "", keep_blank_values=True)))


def _check_options(scheme: str, options: dict[str, str]) -> None:
    for name, value in options.items():
        if name not in _OPTIONS:
            raise ValueError(
                f"the option {name!r} is not supported; leave it out. Known: {', '.join(_OPTIONS)}"
            )
        if scheme != TLS:
            raise ValueError(f"the option {name} is for TLS, so the URL must begin with rediss://")
        if name in _VALUES and value.lower() not in _VALUES[name]:
            raise ValueError(f"{name} must be one of: {', '.join(_VALUES[name])}")
        if name in _FILES and not Path(value).is_file():
            raise ValueError(f"{name} names no file: {value}")
