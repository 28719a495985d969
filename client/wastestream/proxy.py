"""Choice of the proxy for an address, from the environment's variables."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from wastestream.errors import ProxyError

_SCHEMES: Final = {"http", "https"}


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy, and the variable with its address."""

    url: str
    variable: str

    def __str__(self) -> str:
        """Return both, without a password in the address."""
        return f"{_without_password(self.url)} ({self.variable})"


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy for an address; None for a direct connection, as always on this machine.

    Raises:
        ProxyError: a variable names an unusable proxy.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    scheme = parts.scheme if parts.scheme in proxies else "all"
    value = proxies.get(scheme, "")
    if not value or _is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    proxy = Proxy(value if "://" in value else f"http://{value}", _variable(scheme, value))
    if not _is_usable(proxy.url):
        raise ProxyError(
            f"{proxy.variable} names the proxy {_without_password(proxy.url)}, which is unusable; use an "
            f"address with http:// or https://, or set NO_PROXY={parts.hostname}."
        )
    return proxy


def _variable(scheme: str, value: str) -> str:
    """Return the variable that holds `value`; lower case goes before upper case."""
    name = f"{scheme}_proxy"
    return name if os.environ.get(name) == value else name.upper()


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name
        return False
    return address.is_loopback or address.is_unspecified


def _is_usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port that is not a number
        return False


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
