"""The naive broker: what one would write in an afternoon, with everything in one handler.

The same policy bundle, the same claims, the same event, mutual TLS; but each request decides, signs and commits a row
of its own, inline, in the one process that also speaks gRPC. It trusts what TLS verified, checks no field's rules,
keeps no grants, cannot revoke, knows no tasks: it does less. `python -m tests.bench.naive FOLDER PORT`.
"""

import asyncio
import hashlib
import os
import sqlite3
import sys
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from broker.app.ids import new_id, now
from broker.audit.event import Caller, CredentialGranted, Decided, seal
from broker.credential.claims import authorization_details
from broker.credential.grant import Grant, expiry
from broker.credential.mint import finish, prepare
from broker.credential.source import TokenSigner
from broker.credential.token import Credential
from broker.intent import Intent, Resource, canonical_json, parse_parameters
from broker.policy.decide import Permit, Question, decide
from broker.policy.source import PolicySource
from broker.svid.leaf import thumbprint_of
from broker.v1 import exchange_pb2, exchange_pb2_grpc, types_pb2
from tests.bench.stage import ISSUER, serve_until_stopped, tls_of
from tests.operations.world import BUNDLE


class Naive(exchange_pb2_grpc.ExchangeServiceServicer):
    """One handler that does it all.

    Args:
        database: where events are committed.

    """

    def __init__(self, database: Path) -> None:
        source = PolicySource(BUNDLE)
        source.load()
        found = source.current()
        assert found is not None, source.problem
        self._policy = found
        self._signer = TokenSigner(ec.generate_private_key(ec.SECP256R1()))
        self._log = sqlite3.connect(database, isolation_level=None)
        self._log.execute("PRAGMA journal_mode = WAL")
        self._log.execute("PRAGMA synchronous = FULL")
        self._log.execute("CREATE TABLE event (position INTEGER PRIMARY KEY, content BLOB, hash BLOB)")
        self._indexes = count()
        self._hash = b""

    async def Exchange(self, request: Any, context: Any) -> exchange_pb2.ExchangeResponse:  # noqa: N802 - gRPC's
        presented = context.auth_context()
        agent = presented["peer_spiffe_id"][0].decode()
        leaf = x509.load_pem_x509_certificate(presented["x509_pem_cert"][0])
        intent = _intent(request.intent)
        permit = decide(self._policy, Question(principal=agent, login="x509", intent=intent, tenant=""))
        assert isinstance(permit, Permit)
        credential = self._sign(agent, leaf, intent, permit)
        self._commit(credential, intent, permit, context.peer())
        return exchange_pb2.ExchangeResponse(credential=_message(credential))

    def _sign(self, agent: str, leaf: x509.Certificate, intent: Intent, permit: Permit) -> Credential:
        time = now()
        grant = Grant(
            credential_id=new_id("cred"),
            agent=agent,
            tenant=permit.terms.tenant,
            task=intent.task,
            transaction_id=new_id("txn"),
            scope=permit.terms.scope,
            intent_digest=intent.digest(),
            thumbprint=thumbprint_of(leaf),
            status_index=next(self._indexes),
            policy_ids=permit.policy_ids,
            issued_at=time.replace(microsecond=0),
            expires_at=expiry(
                now=time,
                policy=permit.terms.max_lifetime,
                requested=None,
                svid_end=leaf.not_valid_after_utc,
                task_deadline=time + timedelta(days=1),
            ),
        )
        signing_input = prepare(grant, self._signer.kid, ISSUER)
        return finish(signing_input, self._signer.sign(signing_input), grant, new_id("dec"))

    def _commit(self, credential: Credential, intent: Intent, permit: Permit, source: str) -> None:
        grant = credential.grant
        event = CredentialGranted(
            at=now(),
            caller=Caller(spiffe_id=grant.agent, login="x509", source=source, request=new_id("req")),
            intent=intent.canonical_object(),
            intent_digest=grant.intent_digest,
            decided=Decided(id=credential.decision_id, policies=permit.policy_ids, bundle=permit.bundle_digest),
            tenant=grant.tenant,
            task=grant.task,
            transaction=grant.transaction_id,
            credential=grant.credential_id,
            token_digest=credential.token.digest(),
            audience=grant.scope.audience,
            status_index=grant.status_index,
            expires_at=grant.expires_at,
        )
        content = seal(event, lambda: os.urandom(32)).content
        self._hash = hashlib.sha256(self._hash + content).digest()
        self._log.execute("INSERT INTO event (content, hash) VALUES (?, ?)", (content, self._hash))  # autocommit


def _intent(message: types_pb2.Intent) -> Intent:
    return Intent(
        action=message.action,
        resource=Resource(type=message.resource.type, id=message.resource.id),
        parameters=parse_parameters(message.parameters),
        purpose=message.purpose,
        audience=message.audience,
    )


def _message(credential: Credential) -> types_pb2.Credential:
    grant = credential.grant
    message = types_pb2.Credential(
        token=credential.token.reveal(),
        credential_id=grant.credential_id,
        authorization_details=canonical_json(authorization_details(grant.scope)).decode(),
        intent_digest=grant.intent_digest,
        decision_id=credential.decision_id,
        policy_ids=grant.policy_ids,
        transaction_id=grant.transaction_id,
        tenant=grant.tenant,
    )
    message.expires_at.FromDatetime(grant.expires_at)
    return message


async def main(folder: Path, port: int) -> None:
    server = grpc.aio.server()
    naive = Naive(folder / "naive.sqlite3")  # type: ignore[abstract]  # it has no stream
    exchange_pb2_grpc.add_ExchangeServiceServicer_to_server(naive, server)
    server.add_secure_port(f"127.0.0.1:{port}", tls_of(folder))
    await serve_until_stopped(server)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
