"""Where the shop's customers sign in: a small OpenID provider on loopback, its document and its keys over TLS.

It stands for whatever a shop has. There are no passwords and no pages here: whoever is named has signed in, and their
browser takes the ID token to the chat.
"""

import argparse
import asyncio
import json
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import ECKey
from lines import answer

_CLIENT: Final = "support-chat"  # the chat, as this provider knows it
_HOST: Final = "127.0.0.1"
_TOKEN_SECONDS: Final = 600


class Provider(ThreadingHTTPServer):
    """The provider, and the key that its tokens are signed with.

    Raises:
        OSError: no port is free, or the file cannot be written.

    """

    daemon_threads = True

    def __init__(self, ca_file: Path) -> None:
        super().__init__((_HOST, 0), _Published)
        self.issuer = f"https://{_HOST}:{self.server_port}"
        self.key = ECKey.generate_key("P-256", {"kid": "sign-in-1", "use": "sig", "alg": "ES256"})
        chain = ca_file.with_suffix(".key.pem")
        chain.touch(mode=0o600)
        certificate, key = _certificate()
        ca_file.write_bytes(certificate)
        chain.write_bytes(key + certificate)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(chain)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    def published(self) -> dict[str, dict[str, Any]]:
        """Return what it publishes, by path."""
        return {
            "/.well-known/openid-configuration": {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"},
            "/keys": {"keys": [self.key.as_dict(private=False)]},
        }

    async def state(self) -> dict[str, Any]:
        """Tell what a front end and the broker are configured with."""
        return {"issuer": self.issuer, "client": _CLIENT, "port": self.server_port}

    async def sign_in(self, *, customer: str) -> dict[str, Any]:
        """Return what the customer's browser takes to the chat."""
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": customer, "aud": _CLIENT, "iat": now, "auth_time": now}
        header = {"alg": "ES256", "kid": self.key.kid}
        return {"id_token": jwt.encode(header, claims | {"exp": now + _TOKEN_SECONDS}, self.key)}


class _Published(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:  # its base class's name
        document = self.server.published().get(self.path)
        content = json.dumps(document or {}).encode()
        self.send_response(200 if document else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _certificate() -> tuple[bytes, bytes]:
    """Return a certificate of this host that vouches for itself, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the shop's sign-in")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(_HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(encoding), secret


async def main(ca_file: Path) -> None:
    """Do what it is told until standard input ends."""
    provider = Provider(ca_file)
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    await answer({"state": provider.state, "sign_in": provider.sign_in})
    provider.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("ca_file", type=Path, help="where the certificate goes that its callers trust")
    asyncio.run(main(parser.parse_args().ca_file))
