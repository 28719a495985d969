"""Choice of the proxy, and its name in messages."""

from __future__ import annotations

import pytest

from wastestream import Client, GaveUpError, ProxyError, Retry
from wastestream.proxy import Proxy, proxy_for

PROXY = "http://proxy.test:3128"


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, "http://host.test", None),
        ({"http_proxy": PROXY}, "http://host.test:8000", Proxy(PROXY, "http_proxy")),
        ({"HTTPS_PROXY": PROXY}, "https://host.test", Proxy(PROXY, "HTTPS_PROXY")),
        ({"HTTPS_PROXY": PROXY}, "http://host.test", None),
        ({"ALL_PROXY": "proxy.test:3128"}, "https://host.test", Proxy(PROXY, "ALL_PROXY")),
        ({"http_proxy": PROXY, "ALL_PROXY": "socks5://x"}, "http://host.test", Proxy(PROXY, "http_proxy")),
        ({"http_proxy": PROXY, "NO_PROXY": "a.test,host.test"}, "http://host.test:8000", None),
        ({"http_proxy": PROXY, "no_proxy": ".test"}, "http://host.test", None),
        ({"http_proxy": PROXY, "no_proxy": "other.test"}, "http://host.test", Proxy(PROXY, "http_proxy")),
    ],
)
def test_the_environment_names_the_proxy(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, proxy: Proxy | None
) -> None:
    """As other programs read it, small letters or capitals; the most exact variable counts."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "a.localhost", "[::1]", "[::]"])
def test_no_proxy_leads_to_this_machine(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """With any variables, even an unusable proxy."""
    monkeypatch.setenv("http_proxy", PROXY)
    assert proxy_for(f"http://{host}:8000") is None
    monkeypatch.setenv("http_proxy", "socks5://proxy.test:1080")
    assert proxy_for(f"http://{host}:8000") is None


@pytest.mark.parametrize("value", ["socks5://user:secret@proxy.test:1080", "http://", "http://proxy.test:x"])
def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """With its variable, and without its password."""
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(ProxyError, match=r"ALL_PROXY names the proxy .*NO_PROXY=host\.test") as caught:
        proxy_for("http://host.test")
    assert "secret" not in str(caught.value)


def test_the_proxy_is_named_when_the_server_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be what does not answer."""
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:9")  # the discard port: nothing listens
    with Client("http://host.test", retry=Retry(0.01)) as client, pytest.raises(GaveUpError) as caught:
        client.job("any")
    named = "http://host.test, asked through the proxy http://127.0.0.1:9 (http_proxy), is unreachable"
    assert named in str(caught.value)
