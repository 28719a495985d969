"""core.webhook_target: where webhooks may be sent."""

from __future__ import annotations

import ipaddress

import pytest

from core.errors import SettingsError, TargetError
from core.settings import Settings, load_settings
from core.webhook_target import Target, allowed_addresses, parse_target, rejection

NETWORKS = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "127.0.0.0/8", "fd00::/8", "0.0.0.0/0", "::/0")))


def test_a_url_becomes_a_target() -> None:
    """Ports are the schemes', and a query belongs to the path."""
    target = parse_target("https://Example.com/a/b?key=1")
    assert target == Target("https", "example.com", 443, "Example.com", "/a/b?key=1")
    assert parse_target("http://[2001:db8::1]:81") == Target(
        "http", "2001:db8::1", 81, "[2001:db8::1]:81", "/"
    )


@pytest.mark.parametrize(
    "url",
    [
        "example.com",
        "//example.com/",
        "file:///etc/passwd",
        "http://",
        "http:///path",
        "http://:80/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:x/",
        "http://user@example.com/",
        "http://example.com\\@127.0.0.1/",
        "http://example.com/\r\nX: y",
        "http://exam ple.com/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://a%2eb/",
        "http://example.com/#x",
        f"http://example.com/{'x' * 2048}",
    ],
)
def test_other_texts_are_no_targets(url: str) -> None:
    """A sentence says so."""
    with pytest.raises(TargetError, match=r"^(is|has|holds) "):
        parse_target(url)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_allowed(address: str) -> None:
    """However they are written."""
    assert rejection(ipaddress.ip_address(address), []) is None


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "0.1.2.3",
        "240.0.0.1",
        "::1",
        "fd00::1",
        "fec0::1",
        "::7f00:1",
        "::ffff:10.1.2.3",
        "64:ff9b::a01:203",
        "2002:a01:203::1",
    ],
)
def test_private_addresses_must_be_named(address: str) -> None:
    """One of IPv4 in IPv6 is the one of IPv4."""
    assert "WASTESTREAM_WEBHOOK_NETWORKS" in str(rejection(ipaddress.ip_address(address), []))
    assert rejection(ipaddress.ip_address(address), NETWORKS) is None


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "0.0.0.0",  # noqa: S104 - not bound
        "::",
        "224.0.0.1",
        "ff02::1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
    ],
)
def test_some_addresses_are_never_allowed(address: str) -> None:
    """Whatever the operator names: link-local, multicast, unspecified ones, and servers of credentials."""
    assert "never sent" in str(rejection(ipaddress.ip_address(address), NETWORKS))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1"])
def test_a_host_is_judged_by_its_addresses(host: str) -> None:
    """Not by how it is written."""
    with pytest.raises(TargetError, match="a private network"):
        allowed_addresses(host, 80, [])
    assert "127.0.0.1" in allowed_addresses(host, 80, NETWORKS[:2])


def test_networks_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Separated by commas; a wrong one is named."""
    assert Settings().webhook_networks == ()
    monkeypatch.setenv("WASTESTREAM_WEBHOOK_NETWORKS", "")  # as an empty variable in containers
    assert Settings().webhook_networks == ()
    monkeypatch.setenv("WASTESTREAM_WEBHOOK_NETWORKS", "10.0.0.0/8, fd00::/8,")
    assert Settings().webhook_networks == tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "fd00::/8")))
    monkeypatch.setenv("WASTESTREAM_WEBHOOK_NETWORKS", "10.0.0.1/8")
    load_settings.cache_clear()
    with pytest.raises(SettingsError, match="WASTESTREAM_WEBHOOK_NETWORKS"):
        load_settings()
