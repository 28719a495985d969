"""The HTTP client of webhooks, against servers that are slow, lie, redirect or never end."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import trustme

from core.webhook_target import parse_target
from tests.support.receiver import Receiver, status
from tests.support.servers import free_port
from tests.support.tls import TlsProxy
from worker.sinks import webhook_client
from worker.sinks.runner import DeliveryError
from worker.sinks.webhook_client import GoneError, WebhookClient

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
HEADERS = {"webhook-id": "msg_1"}
MIB = 1024 * 1024


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on loopback."""
    running = Receiver()
    yield running
    running.close()


def post(url: str, body: bytes = b"{}", networks: Any = LOOPBACK) -> None:
    """Post once."""
    client = WebhookClient(parse_target(url), networks)
    try:
        client.post(HEADERS, body)
    finally:
        client.close()


@pytest.fixture
def raw_server() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """A function that starts a server of one connection, which a function serves, and returns its URL."""
    listeners: list[socket.socket] = []

    def start(serve: Callable[[socket.socket], None]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def run() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    serve(connection)

        threading.Thread(target=run, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield start
    for listener in listeners:
        listener.close()


def send(data: bytes, *, repeat: bytes = b"", pause: float = 0.0) -> Callable[[socket.socket], None]:
    """Return a server that reads a request, sends bytes, and then others for ever, if any."""

    def serve(connection: socket.socket) -> None:
        request = b""  # With its body, which may come apart: if it is left unread, closing is a reset.
        while not request.endswith(b"{}") and (more := connection.recv(65536)):
            request += more
        connection.sendall(data)
        while repeat:
            connection.sendall(repeat)
            threading.Event().wait(pause)

    return serve


def silent(connection: socket.socket) -> None:
    """Read, and never answer."""
    while connection.recv(65536):
        pass


def deaf(connection: socket.socket) -> None:
    """Never read."""
    threading.Event().wait(60)


@pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
def test_success_is_2xx(receiver: Receiver, code: int) -> None:
    """Whatever else the response says."""
    receiver.respond = status(code)
    post(receiver.url, b'{"a": 1}')
    (delivery,) = receiver.deliveries
    assert (delivery.id, delivery.host, delivery.body) == ("msg_1", f"127.0.0.1:{receiver.port}", b'{"a": 1}')


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(receiver: Receiver, code: int) -> None:
    """They could lead anywhere."""
    receiver.respond = status(code, Location=receiver.url)
    with pytest.raises(DeliveryError, match=f"127.0.0.1 answered {code}, a redirect, which webhooks do not"):
        post(receiver.url)
    assert len(receiver.deliveries) == 1


def test_other_answers_are_failures(receiver: Receiver) -> None:
    """410 means that the receiver wants no more."""
    for code in (304, 400, 404, 429, 500, 503):
        receiver.respond = status(code)
        with pytest.raises(DeliveryError, match=f"answered {code}"):
            post(receiver.url)
    receiver.respond = status(410)
    with pytest.raises(GoneError, match="wants no more"):
        post(receiver.url)


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("serve", "says"),
    [
        (silent, "did not answer within"),
        (deaf, "did not answer within"),
        (send(HEAD, repeat=b"X-A: b\r\n", pause=0.05), "did not answer within"),
        (send(b"", repeat=b"HTTP/1.1 102 Processing\r\n\r\n", pause=0.05), "did not answer within"),
        (send(HEAD, repeat=b"X-A: b\r\n" * 10_000), "did not answer as an HTTP server"),
        (send(b"220 mail.example.com ESMTP\r\n"), "did not answer as an HTTP server"),
        (send(b""), "did not answer as an HTTP server"),
    ],
    ids=["silent", "deaf", "dripping header", "endless 1xx", "endless header", "no HTTP", "closing"],
)
def test_a_target_takes_bounded_time_and_memory(
    raw_server: Any, monkeypatch: pytest.MonkeyPatch, serve: Any, says: str
) -> None:
    """However it drips, and though it never reads; a sentence tells."""
    monkeypatch.setattr(webhook_client, "TOTAL_SECONDS", 1.5)
    with pytest.raises(DeliveryError, match=f"127.0.0.1 {says}"):
        post(raw_server(serve), bytes(20 * MIB) if serve is deaf else b"{}")


def test_the_rest_of_a_response_is_not_read_to_its_end(raw_server: Any) -> None:
    """Its sender has said that it has the results, and loses the connection."""
    sent = [0]

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(HEAD + b"Content-Length: 1000000000000\r\n\r\n")
        while True:
            sent[0] += connection.send(bytes(65536))

    post(raw_server(serve))
    assert sent[0] < 100 * MIB


def test_a_closed_port_is_named() -> None:
    """With the system's reason."""
    with pytest.raises(DeliveryError, match=r"127\.0\.0\.1 cannot be reached.*refused"):
        post(f"http://127.0.0.1:{free_port()}/")


def test_the_address_is_checked_when_it_is_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that has got another address since the webhook was made leads nowhere."""
    url = f"http://rebinding.example:{receiver.port}/"

    look_up = socket.getaddrinfo

    def resolves_to(*addresses: str) -> None:
        def found(host: str, port: int, *arguments: Any, **options: Any) -> Any:
            names = addresses if host == "rebinding.example" else [host]
            return [entry for name in names for entry in look_up(name, port, *arguments, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", found)

    resolves_to("127.0.0.1")
    with pytest.raises(
        DeliveryError, match=r"URL names 127\.0\.0\.1, an address of this machine or a private"
    ):
        post(url, networks=())
    assert receiver.deliveries == []
    resolves_to("169.254.169.254")
    with pytest.raises(DeliveryError, match="never sent to"):
        post(url)
    closed = free_port()
    resolves_to("169.254.169.254", "127.0.0.1")
    post(url)
    assert [delivery.host for delivery in receiver.deliveries] == [f"rebinding.example:{receiver.port}"]
    with pytest.raises(DeliveryError, match="refused"):
        post(f"http://rebinding.example:{closed}/")


def test_the_connection_is_kept_between_deliveries(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And proxies of the environment are not asked: they would not be checked."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    ports = set[int]()

    def note(request: BaseHTTPRequestHandler) -> None:
        ports.add(request.client_address[1])
        status(204)(request)

    receiver.respond = note
    client = WebhookClient(parse_target(receiver.url), LOOPBACK)
    for _ in range(3):
        client.post(HEADERS, b"{}")
    assert len(ports) == 1
    client.close()
    client.post(HEADERS, b"{}")
    client.close()
    assert len(ports) == 2


def test_the_name_in_the_certificate_is_the_one_in_the_url(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Though the connection goes to an address; the system's authorities are trusted, or `SSL_CERT_FILE`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    proxy = TlsProxy(receiver.port, authority.issue_cert("localhost"))
    webhook_client._ssl_context.cache_clear()
    with pytest.raises(DeliveryError, match="certificate verify failed"):
        post(f"https://localhost:{proxy.port}/")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    webhook_client._ssl_context.cache_clear()
    post(f"https://localhost:{proxy.port}/")
    with pytest.raises(DeliveryError, match=r"not valid for '127\.0\.0\.1'"):
        post(f"https://127.0.0.1:{proxy.port}/")
    proxy.close()
    webhook_client._ssl_context.cache_clear()
    assert [delivery.host for delivery in receiver.deliveries] == [f"localhost:{proxy.port}"]
