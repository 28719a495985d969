"""Redis' address: valid values of `WASTESTREAM_REDIS_URL` and `WASTESTREAM_REDIS_SENTINELS`.

redis-py reads the URL for every connection (`core.redis.client`); Flower and Celery's messages show kombu's
reading of it. A URL that passes here means the same to both (see `core.messages`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

TLS: Final = "rediss"
"""Scheme of the URLs of servers that speak TLS."""

UNIX: Final = "unix"
"""Scheme of the URLs of socket files."""

_PARTS: Final = re.compile(
    r"rediss?://(?:[^/?#\[\]\s]*@)?"
    r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?(?:/\d*)?(?:\?(?P<options>[^@#]*))?"
)
_SOCKET_PARTS: Final = re.compile(r"unix://(?:[^/?#\[\]\s]*@)?/[^?#\s]+(?:\?(?P<options>[^@#]*))?")
_SENTINEL: Final = re.compile(
    r"(?:(?P<name>[A-Za-z0-9._-]+)|\[(?P<ip>[0-9A-Fa-f:.]+)\])(?::(?P<port>\d{1,5}))?"
)
_SENTINEL_PORT: Final = 26_379  # Sentinel's own default
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
    "write redis://USER:PASSWORD@HOST:PORT/DB, or rediss:// for TLS, or unix://USER:PASSWORD@/PATH?db=DB for "
    "a socket file; in a password, percent-encode / ? # [ ] % and blanks (/ is %2F)"
)
"""Form of a URL, for messages."""

SENTINELS_FORM: Final = "write HOST:PORT,HOST:PORT,..., without a scheme; the port is 26379 if left out"
"""Form of a list of Sentinels, for messages."""


@dataclass(frozen=True)
class RedisAddress:
    """The way to Redis.

    Attributes:
        url: checked by `check_redis_url`. With Sentinels, its host is the master's name.
        sentinels: host and port of each Sentinel; without any, the URL names the server itself.
        sentinel_password: of the Sentinels, if they have one.
    """

    url: str = field(repr=False)
    sentinels: tuple[tuple[str, int], ...] = ()
    sentinel_password: str = field(default="", repr=False)

    @property
    def shown(self) -> str:
        """The address for people, without user and passwords."""
        parts = urlsplit(self.url)
        if self.sentinels:
            names = ", ".join(f"{host}:{port}" for host, port in self.sentinels)
            return f"the master {parts.hostname} of the Sentinels {names}"
        return parts.path if parts.scheme == UNIX else parts.netloc.rpartition("@")[2]

    def __json__(self) -> str:
        """Return what Celery's remote control shows of it."""
        return self.shown


def check_redis_url(url: str) -> None:
    """Check that every program can use the URL.

    Raises:
        ValueError: it cannot be used; the message says why, and holds nothing of the password.
    """
    scheme = url.partition("://")[0].lower()
    if "sentinel" in scheme:
        raise ValueError(
            "for Redis Sentinel, write redis://USER:PASSWORD@MASTER/DB with the master's name, and the "
            "Sentinels in WASTESTREAM_REDIS_SENTINELS"
        )
    if "cluster" in scheme:
        raise ValueError("Redis Cluster is not supported; name one server, as redis://HOST:PORT/0")
    if scheme != UNIX and ("unix" in scheme or "socket" in scheme):
        raise ValueError("for a socket file, write unix:///PATH?db=0")
    parts = (_SOCKET_PARTS if scheme == UNIX else _PARTS).fullmatch(url)
    if (
        parts is None
        or _STRAY_PERCENT.search(url)
        or not 1 <= int(parts.groupdict().get("port") or 1) <= _MAX_PORT
    ):
        raise ValueError(FORM)
    options = dict(parse_qsl(parts["options"] or "", keep_blank_values=True))
    if scheme == UNIX:
        _check_socket_options(options)
    else:
        _check_options(scheme, options)


def read_sentinels(text: str) -> tuple[tuple[str, int], ...]:
    """Return host and port of each Sentinel in a list.

    Raises:
        ValueError: it is no such list.
    """
    sentinels: list[tuple[str, int]] = []
    for word in filter(None, map(str.strip, text.split(","))):
        parts = _SENTINEL.fullmatch(word)
        port = int(parts["port"] or _SENTINEL_PORT) if parts else 0
        if parts is None or not 1 <= port <= _MAX_PORT:
            raise ValueError(f"{SENTINELS_FORM}; {word[:80]!r} is no Sentinel")
        sentinels.append((parts["name"] or parts["ip"], port))
    return tuple(sentinels)


def check_master_url(url: str) -> None:
    """Check that the URL can name a master that Sentinels know.

    Raises:
        ValueError: it cannot.
    """
    parts = urlsplit(url)
    if parts.scheme == UNIX or parts.port is not None:
        raise ValueError(
            "WASTESTREAM_REDIS_URL must be redis://USER:PASSWORD@MASTER/DB, or rediss://..., where "
            "WASTESTREAM_REDIS_SENTINELS is set: MASTER is the name that the Sentinels know, and has no port"
        )


def _check_socket_options(options: dict[str, str]) -> None:
    for name, value in options.items():
        if name != "db" or not value.isdecimal():
            raise ValueError(f"after unix:///PATH only ?db=NUMBER may follow, not {name!r}")


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
