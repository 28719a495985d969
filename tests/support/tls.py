"""A TLS proxy in front of a plain server, as managed services have."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator

import trustme


class TlsProxy:
    """Listens on loopback, for a name in its certificate.

    Args:
        target: port of the server.
        certificate: what it shows.
        clients: the authority of the certificates that clients must show; None if they need none.
    """

    def __init__(self, target: int, certificate: trustme.LeafCert, clients: trustme.CA | None = None) -> None:
        self.beginnings: list[bytes] = []
        """The first bytes of every connection."""
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self._context)
        if clients:
            clients.configure_trust(self._context)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def in_clear(self) -> list[bytes]:
        """First bytes of connections without a TLS handshake."""
        return [beginning for beginning in self.beginnings if not beginning.startswith(b"\x16\x03")]

    def close(self) -> None:
        """Stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # Either end may break off at any time, and clients should not trust every certificate.
        with connection, contextlib.suppress(OSError):
            beginning = connection.recv(64, socket.MSG_PEEK)
            if beginning:
                self.beginnings.append(beginning)
            with (
                self._context.wrap_socket(connection, server_side=True) as client,
                socket.create_connection(("127.0.0.1", self._target)) as server,
            ):
                _relay(client, server)


def _relay(client: ssl.SSLSocket, server: socket.socket) -> None:
    while True:
        readable = [client] if client.pending() else select.select([client, server], [], [])[0]
        for source in readable:
            data = source.recv(65536)
            if not data:
                return
            (server if source is client else client).sendall(data)


@contextlib.contextmanager
def tls_proxy(
    target: int, certificate: trustme.LeafCert, clients: trustme.CA | None = None
) -> Iterator[TlsProxy]:
    """Run a proxy."""
    proxy = TlsProxy(target, certificate, clients)
    try:
        yield proxy
    finally:
        proxy.close()
