"""Certificates made for the tests, and a door with TLS before a server that has none."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from workers.runtime.transport import ClientTls

Greeting = Callable[[socket.socket], bool]
HOST = "127.0.0.1"
PATIENCE = 30.0  # seconds without a byte


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    @property
    def key_for_java(self) -> Path:
        """Write the key in the one form that both Java's driver of PostgreSQL and libpq read."""
        file = self.key.with_suffix(".pk8")
        key = serialization.load_pem_private_key(self.key.read_bytes(), password=None)
        file.write_bytes(as_pkcs8(key, serialization.Encoding.DER))
        file.chmod(0o600)
        return file


def as_pkcs8(key: Any, encoding: serialization.Encoding) -> bytes:
    """Write a private key without a password."""
    encoded: bytes = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return encoded


class Authority:
    """A certificate authority of its own, and the certificates that it signs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ca = trustme.CA()
        self.file = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, *names: str, expired: bool = False) -> Pair:
        """Sign a certificate for host names or addresses, or for a person or process that is named so."""
        yesterday = datetime.now(UTC) - timedelta(days=1)
        issued = self._ca.issue_cert(*names, common_name=names[0], not_after=yesterday if expired else None)
        stem = f"{names[0]}-{len(list(self._directory.iterdir()))}"
        pair = Pair(self._directory / f"{stem}.pem", self._directory / f"{stem}.key")
        pair.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), password=None)
        pair.key.write_bytes(as_pkcs8(key, serialization.Encoding.PEM))  # Java reads no other form
        pair.key.chmod(0o600)
        return pair

    def server(self, pair: Pair, *, demands_client: bool = False) -> ssl.SSLContext:
        """Make the context of a server; with `demands_client`, only clients with a certificate of this authority may enter."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pair.certificate, pair.key)
        if demands_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.file)
        return context

    def client(self, peer: str, pair: Pair | None = None) -> ClientTls:
        """Make the settings of a client that trusts this authority, and shows the certificate if there is one."""
        files = {"certificate_file": pair.certificate, "key_file": pair.key} if pair else {}
        return ClientTls(peer=peer, ca_file=self.file, **files)


@dataclass(slots=True)
class TlsDoor:
    """Where clients connect. `entered` has the names in the client certificates that were accepted.

    With `cuts` a request goes on to the server, and instead of its response comes text that is not encrypted, as from a broken gateway.
    """

    port: int
    target_port: int
    entered: list[str] = field(default_factory=list)
    cuts: bool = False

    def url(self, scheme: str = "https", host: str = HOST) -> str:
        return f"{scheme}://{host}:{self.port}"


@contextmanager
def tls_door(target_port: int, context: ssl.SSLContext, greet: Greeting = lambda _: True) -> Iterator[TlsDoor]:
    """Open a port whose connections are decrypted and go on to a port of this machine.

    `greet` says what comes before the handshake, and whether there is one.
    """

    class Connection(BaseRequestHandler):
        def handle(self) -> None:
            if not greet(self.request):
                return
            with (
                suppress(OSError),
                context.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False) as client,
            ):
                try:
                    client.do_handshake()
                except ssl.SSLError:
                    # Read what a refused client has sent, as servers do: otherwise the reset of the connection may overtake the alert.
                    while socket.socket.recv(client, 65536):
                        continue
                else:
                    door.entered.append(_name_in(client.getpeercert() or {}))
                    _carry(client, door)

    with ThreadingTCPServer((HOST, 0), Connection) as server:
        door = TlsDoor(server.server_address[1], target_port)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="tls-door")
        thread.start()
        try:
            yield door
        finally:
            server.shutdown()
            thread.join()


def _name_in(certificate: Mapping[str, Any]) -> str:
    subject = dict(pair for part in certificate.get("subject", ()) for pair in part)
    return str(subject.get("commonName"))


def _carry(client: ssl.SSLSocket, door: TlsDoor) -> None:
    """Carry bytes both ways until one side closes, or until the door cuts the connection."""
    with socket.create_connection((HOST, door.target_port)) as target:
        while True:
            ready = [client] if client.pending() else select.select([client, target], [], [], PATIENCE)[0]
            for source in ready:
                data = source.recv(65536)
                if source is target and door.cuts:
                    socket.socket.sendall(client, b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
                    return
                if not data:
                    return
                (target if source is client else client).sendall(data)
            if not ready:
                return


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Give the authority that the peers of a test belong to."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Give an authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"))
