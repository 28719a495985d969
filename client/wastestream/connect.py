"""Set-up of a client: its address, key and proxy."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from wastestream.calls import Calls
from wastestream.proxy import proxy_for
from wastestream.retry import Retry
from wastestream.transport import AsyncTransport, BlockingTransport
from wastestream.version import __version__

_USER_AGENT: Final = f"wastestream-client/{__version__}"
_KEY: Final = re.compile(r"[\x21-\x7e]+")


def connect(
    transport: type[AsyncTransport | BlockingTransport],
    url: str,
    key: str | None,
    camera: str | None,
    retry: Retry,
) -> Calls:
    """Return the calls of the server at an address, without making one.

    Raises:
        ValueError: the address or the key is malformed.
        ProxyError: the environment names an unusable proxy.
    """
    url = url.rstrip("/")
    if not is_address(url):
        raise ValueError(f"{url!r} is no address; use an address like http://127.0.0.1:8000 or https://host.")
    headers = {"User-Agent": _USER_AGENT}
    if key is not None:
        if not _KEY.fullmatch(key):
            raise ValueError("An API key is one line without spaces; this key is not.")
        headers["Authorization"] = f"Bearer {key}"
    proxy = proxy_for(url)
    server = url if proxy is None else f"{url}, asked through the proxy {proxy},"
    return Calls(transport(url, headers, proxy), server, camera, retry)


def is_address(url: str) -> bool:
    """Return whether this is a valid address of a server."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # such as a port beyond 65535
        return False
    host = parts.hostname or ""
    return parts.scheme in {"http", "https"} and bool(host) and not re.search(r"\s", url) and port != 0
