"""Federation by `https_web` on real SPIRE: bundle endpoints that show a certificate of a local CA."""

import asyncio
import ipaddress
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.spire.build import find_binaries
from deploy.spire.deployment import DeployError, Deployment, TrustDomain, stop
from deploy.spire.server_api import run
from deploy.spire.starting import await_agent, await_ready
from deploy.spire.state import State
from tests.polling import eventually
from tests.spire.stage import BOTH, BROKER, READ, Stage
from tests.spire.stage import stage as set_stage

pytestmark = pytest.mark.spire

SUPPORT = "spiffe://example.org/agent/support-assistant"
COURIER = "spiffe://partner.example/agent/courier"
LOOK_UP = READ | {"purpose": "delivery"}


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A CA of the web, made here: its certificate, and a certificate with its key for the loopback address."""

    root: Path
    endpoint: Path

    @classmethod
    def make(cls, folder: Path, name: str) -> "Authority":
        made = cls(root=folder / f"{name}.pem", endpoint=folder / f"{name}-endpoint.pem")
        key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root = _certificate(name, key, name, key, x509.BasicConstraints(ca=True, path_length=0))
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        leaf = _certificate("endpoint", leaf_key, name, key, address)
        made.root.write_bytes(root.public_bytes(serialization.Encoding.PEM))
        private = leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        made.endpoint.write_bytes(leaf.public_bytes(serialization.Encoding.PEM) + private)
        return made


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        .sign(issuer_key, hashes.SHA256())
    )


@dataclass(frozen=True, kw_only=True)
class Web(Deployment):
    """Two trust domains that fetch each other's bundle from the web, and were given none by hand."""

    authority: Authority

    def entry(self, spiffe_id: str, **parts: Any) -> str:
        """Federate an entry with what its server has; it refuses an entry with a trust domain unknown to it."""
        here = self.trust_domain(spiffe_id.removeprefix("spiffe://").partition("/")[0])
        return super().entry(spiffe_id, **parts | {"federates_with": foreign_bundles(here)})

    def begin_server(self, name: str, *, trusting: Authority) -> None:
        """Start a server whose roots of the web are this authority's and the system's."""
        here = self.trust_domain(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(trusting.root))
            here.server.begin(detached=False)
        await_ready(here.server, here.api.healthy)

    def begin_agent(self, name: str) -> None:
        here = self.trust_domain(name)
        here.begin_agent(detached=False)
        await_agent(here)


def prepare(here: TrustDomain, other: TrustDomain, authority: Authority) -> None:
    """Write the configuration files, with the one profile in place of the other."""
    here.prepare([other], "60s")
    file = here.directory / "server.conf"
    text = file.read_text()
    web = f"""profile "https_web" {{
                serving_cert_file {{
                    cert_file_path = "{authority.endpoint}"
                    key_file_path = "{authority.endpoint}"
                    file_sync_interval = "1h"
                }}
            }}"""
    named = f'endpoint_spiffe_id = "spiffe://{other.name}/spire/server"'
    for before, after in (('profile "https_spiffe" {}', web), ("https_spiffe", "https_web"), (named, "")):
        assert text.count(before) == 1
        text = text.replace(before, after)
    file.write_text(text)


def foreign_bundles(here: TrustDomain) -> list[str]:
    """Return the trust domains whose bundle a server has."""
    shown = server(here, "bundle", "list", "-format", "spiffe")
    return [name for name in BOTH if name in shown]


def refresh(here: TrustDomain, other: str) -> None:
    """Have a server fetch a foreign bundle now. Raises DeployError with what it says when it cannot."""
    server(here, "federation", "refresh", "-id", other)


def server(here: TrustDomain, *words: str) -> str:
    """Run one command of a server."""
    return run(here.binaries.server, [*words, "-socketPath", str(here.server_socket)])


@pytest.fixture
def web() -> Iterator[Web]:
    binaries = find_binaries()
    with tempfile.TemporaryDirectory(prefix="spire-web-") as name:
        folder = Path(name)
        state = State(
            trust_domains=BOTH, ports=(), svid_ttl="60s", detached=False,
            server=str(binaries.server), agent=str(binaries.agent),
        ).with_new_ports()  # fmt: skip
        state.write(folder)
        layout = state.layout(folder)
        authority = Authority.make(folder, "trusted")
        for here, other in (layout, layout[::-1]):
            prepare(here, other, authority)
        try:
            yield Web(directory=folder, svid_ttl="60s", detached=False, trust_domains=layout, authority=authority)
        finally:
            stop(folder)


async def test_a_foreign_bundle_comes_over_the_web_only_by_a_trusted_authority(web: Web) -> None:
    ours, theirs = web.trust_domains
    web.begin_server(ours.name, trusting=Authority.make(web.directory, "another"))
    web.begin_server(theirs.name, trusting=web.authority)
    for here in BOTH:
        web.begin_agent(here)
    refresh(theirs, ours.name)
    assert foreign_bundles(theirs) == [ours.name]
    with pytest.raises(DeployError, match="certificate signed by unknown authority"):
        refresh(ours, theirs.name)
    assert foreign_bundles(ours) == []
    with tempfile.TemporaryDirectory(prefix="broker-test-") as folder:
        async with set_stage(web, Path(folder)) as stage:
            assert "credential" in await stage.as_(SUPPORT, READ)
            refused = await stage.as_(COURIER, LOOK_UP)  # in the handshake already: TLS knows no such root
            assert "may not accept our SVID" in refused["unreachable"]
            await asyncio.to_thread(begin_to_trust, web)
            stage.interpreter(BROKER)
            assert await eventually(lambda: answers(stage, "policies", ["courier-may-look-up-an-order"]), within=60)
            server(
                ours, "bundle", "delete", "-id", f"spiffe://{theirs.name}", "-mode", "dissociate"
            )  # on the connection that is open now, there is a reason
            assert await eventually(lambda: answers(stage, "refused", "SVID_TRUST_DOMAIN_UNKNOWN"), within=60)


def begin_to_trust(web: Web) -> None:
    """Start our server again, now with the authority that their endpoint has its certificate from."""
    ours, theirs = web.trust_domains
    ours.server.end()
    web.begin_server(ours.name, trusting=web.authority)
    refresh(ours, theirs.name)
    assert foreign_bundles(ours) == [theirs.name]


async def answers(stage: Stage, key: str, value: object) -> bool:
    """Whether an exchange of the foreign agent answers so by now."""
    return (await stage.as_(COURIER, LOOK_UP)).get(key) == value
