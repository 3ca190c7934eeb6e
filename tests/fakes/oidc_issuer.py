"""An issuer of OpenID Connect on loopback: discovery and keys over TLS, by an authority of its own; good or bad."""

import contextlib
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from broker.person.identity_token import Provider
from broker.person.source import ProviderSource
from tests.fakes.identity import AUDIENCE, IdentityKey, identity_token

DISCOVERY = "/realm/.well-known/openid-configuration"
KEYS = "/realm/keys"


@dataclass(kw_only=True)
class OidcIssuer:
    """A running issuer. A test changes what it publishes, or what a path does instead of answering.

    Attributes:
        folder: where its certificates are put.
        keys: what it publishes; the first one signs.
        document: changes to its discovery document.
        instead: by path, what handles a request instead.
        asked: how often each path was asked for.

    """

    folder: Path
    keys: list[IdentityKey] = field(default_factory=lambda: [IdentityKey.make()])
    document: dict[str, Any] = field(default_factory=dict)
    instead: dict[str, Callable[["Handler"], None]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    names: tuple[str, ...] = ("127.0.0.1",)
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/realm"

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.server_address[1])

    @property
    def ca_file(self) -> Path:
        return self.folder / "authority.pem"

    def start(self, port: int = 0) -> "OidcIssuer":
        authority, chain = certificates(self.names)
        self.ca_file.write_bytes(authority)
        (self.folder / "issuer.pem").write_bytes(chain)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.folder / "issuer.pem")
        issuer = self

        class Bound(Handler):
            of = issuer

        self._server = Server(("127.0.0.1", port), Bound)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    close = stop

    def source(self, **changes: Any) -> ProviderSource:
        provider = Provider(issuer=self.url, audience=AUDIENCE)
        values: dict[str, Any] = {"provider": provider, "ca_file": self.ca_file} | changes
        return ProviderSource(**values)

    def token(self, key: IdentityKey | None = None, **changes: Any) -> str:
        """A good token of now, by the key that signs."""
        return identity_token(key or self.keys[0], datetime.now(UTC), **{"iss": self.url} | changes)

    def answer(self, path: str) -> bytes | None:
        match path:
            case "/realm/.well-known/openid-configuration":
                return json.dumps({"issuer": self.url, "jwks_uri": self.url + "/keys"} | self.document).encode()
            case "/realm/keys":
                return json.dumps({"keys": [key.jwk() for key in self.keys]}).encode()
            case _:
                return None


class Server(ThreadingHTTPServer):
    """A thread a caller."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Callers that hang up are what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    """Answers one caller."""

    of: OidcIssuer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # its base class's name
        self.of.asked[self.path] += 1
        instead = self.of.instead.get(self.path)
        if instead is not None:
            instead(self)
            return
        content = self.of.answer(self.path)
        self.send(200 if content is not None else 404, content or b"")

    def send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(content))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


# --- what an issuer can do instead of answering -----------------------------------------------------------------------


def status(code: int, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.send(code, b"{}", **headers)


def content(text: bytes, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.send(200, text, **headers)


def endless(handler: Handler) -> None:
    """Send more and more, without a length."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b" " * 65536)


def drip(handler: Handler) -> None:
    """Send a byte now and then, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)


def drip_without_length(handler: Handler) -> None:
    """Send a byte now and then, for ever, and do not say how many."""
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)


def drip_headers(handler: Handler) -> None:
    """Never come to the end of the headers."""
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)


def cut(handler: Handler) -> None:
    """Promise more than is sent."""
    handler.send(200, b"{}", Content_Length="4000")
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def nonsense(handler: Handler) -> None:
    """Answer in something that is not HTTP."""
    handler.wfile.write(b"secret\r\n\r\n")
    handler.close_connection = True


def certificates(names: tuple[str, ...]) -> tuple[bytes, bytes]:
    """Return an authority's certificate, and key and certificate of a host of these names."""
    now = datetime.now(UTC)
    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    whose = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority for tests")])
    host = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an issuer for tests")])

    def signed(
        subject: x509.Name, public: ec.EllipticCurvePublicKey, *extensions: tuple[x509.ExtensionType, bool]
    ) -> bytes:
        builder = x509.CertificateBuilder(
            issuer_name=whose, subject_name=subject, public_key=public, serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(minutes=1), not_valid_after=now + timedelta(days=1),
        )  # fmt: skip
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(root, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    identifier = x509.SubjectKeyIdentifier.from_public_key(root.public_key())
    authority = signed(
        whose,
        root.public_key(),
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (identifier, False),
        (key_usage(signs=True), True),
    )
    leaf = signed(
        host,
        key.public_key(),
        (x509.SubjectAlternativeName([_name(each) for each in names]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
    )
    pkcs8 = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, pkcs8, serialization.NoEncryption())
    return authority, private + leaf


def key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs, crl_sign=signs, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)
