"""Targets of webhooks: which addresses of the network they may have.

A target is checked when the webhook is made and again at each connection, on the address that is connected
to: a name can have another address by then.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from core.errors import TargetError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL_LENGTH: Final = 2048
"""Maximum characters of a target's URL."""

_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]+\]")

_METADATA: Final = frozenset(
    map(
        ipaddress.ip_address,
        (
            "169.254.169.254",  # most clouds
            "fd00:ec2::254",  # AWS
            "fd20:ce::254",  # Google Cloud
            "100.100.100.200",  # Alibaba Cloud
            "168.63.129.16",  # Azure
            "192.0.0.192",  # Oracle Cloud
        ),
    )
)
"""Servers that hand out a cloud machine's credentials."""

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class Target(NamedTuple):
    """A URL that webhooks can be sent to.

    Attributes:
        scheme: `http` or `https`.
        host: name or address, without brackets.
        port: that the URL names, or the scheme's.
        authority: value of the header `Host`.
        path: path and query.
    """

    scheme: str
    host: str
    port: int
    authority: str
    path: str


def parse_target(url: str) -> Target:
    """Return the target that a URL names.

    Raises:
        TargetError: it is none that webhooks can be sent to.
    """
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise TargetError(
            "has a character that no URL has; percent-encode it, and write the host in ASCII (xn--...)"
        )
    if len(url) > MAX_URL_LENGTH:
        raise TargetError(f"has more than {MAX_URL_LENGTH:,} characters; send a shorter one")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise TargetError(f"is no URL ({error}); send one such as https://example.com/results") from error
    _check_parts(parts)
    path = parts.path or "/"
    return Target(
        scheme=parts.scheme,
        host=str(parts.hostname),
        port=port or _PORTS[parts.scheme],
        authority=parts.netloc,
        path=f"{path}?{parts.query}" if parts.query else path,
    )


def _check_parts(parts: SplitResult) -> None:
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme not in _PORTS or not parts.netloc or parts.port == 0:
        raise TargetError("is not an http or https URL; send one such as https://example.com/results")
    if "@" in parts.netloc:
        raise TargetError("holds a user name; webhooks are signed instead, so leave it out")
    if parts.fragment:
        raise TargetError("has a fragment (#...), which is never sent; leave it out")
    if not _HOST.fullmatch(re.sub(r":[0-9]*$", "", host)):
        raise TargetError("has no valid host; send a URL such as https://example.com/results")


def allowed_addresses(host: str, port: int, networks: Sequence[Network]) -> list[str]:
    """Return the addresses of a host that webhooks may be sent to, the preferred one first.

    Args:
        host: name or address.
        port: of the target.
        networks: private networks, and parts of loopback, that are allowed besides all public addresses.

    Raises:
        TargetError: the host has no address, or none that is allowed.
    """
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise TargetError(f"names the host {host}, which has no address ({_reason(error)})") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
    rejections = {address: rejection(ipaddress.ip_address(address), networks) for address in addresses}
    allowed = [address for address in addresses if rejections[address] is None]
    if not allowed:
        raise TargetError("names " + "; ".join(str(reason) for reason in rejections.values()))
    return allowed


def rejection(address: Address, networks: Sequence[Network]) -> str | None:
    """Return why webhooks are not sent to an address; None if they are."""
    for each in _meant(address):
        if each in _METADATA or each.is_link_local or each.is_multicast or each.is_unspecified:
            return f"{address}, an address that webhooks are never sent to"
        if not _is_public(each) and not any(each in network for network in networks):
            return (
                f"{address}, an address of this machine or a private network; to allow it, the operator adds "
                "its network to WASTESTREAM_WEBHOOK_NETWORKS"
            )
    return None


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address.is_site_local:
        return False
    return address.is_global and not address.is_reserved


def _meant(address: Address) -> Iterator[Address]:
    """Yield the address that packets to `address` reach: an IPv4 address may be written in one of IPv6."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
    elif inner := address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1]):
        yield inner
    elif address in _NAT64:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    else:
        yield address


def _reason(error: OSError | UnicodeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
