"""Verbs: what every session asks besides exchanges and tasks: revocation, overrides, keys, log."""

from collections.abc import Callable
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from broker.client.channel import Endpoint, Generations
from broker.client.credential import Checkpoint, Ending, Key, KeySet, Override, Rotation
from broker.client.decode import rule_message
from broker.client.errors import from_rpc
from broker.client.identity_token import authorization
from broker.client.keys import key_of, rotation_of, use_of
from broker.client.overrides import override_of, target_of
from broker.credential.revocation import RuleKind
from broker.override import StopKind
from broker.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    keys_pb2,
    keys_pb2_grpc,
    override_pb2,
    override_pb2_grpc,
    revoke_pb2,
    revoke_pb2_grpc,
)

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)


class Verbs:
    """Asks the broker in the generation that is current, always with a deadline."""

    _generations: Generations
    _broker: Endpoint
    _deadline: float

    # --- revocation ------------------------------------------------------------------------------------------------

    async def revoke(self, kind: RuleKind, name: str, *, reason: str = "") -> Ending:
        """Revoke everything that a rule covers; durable when this returns."""
        request = revoke_pb2.RevokeRequest(rule=rule_message(kind, name), reason=reason)
        answer = await self._ask(lambda channel: revoke_pb2_grpc.RevocationServiceStub(channel).Revoke, request)
        return Ending(position=answer.position, revoked=answer.revoked_credentials, revocation=answer.revocation_id)

    async def lift(self, revocation: str, *, reason: str = "") -> Ending:
        """Let new credentials pass again; what was revoked stays revoked."""
        request = revoke_pb2.LiftRevocationRequest(revocation_id=revocation, reason=reason)
        answer = await self._ask(lambda channel: revoke_pb2_grpc.RevocationServiceStub(channel).LiftRevocation, request)
        return Ending(position=answer.position, revocation=revocation)

    # --- overrides -------------------------------------------------------------------------------------------------

    async def impose_override(self, kind: StopKind, name: str = "", *, reason: str, within_tenant: str = "") -> Ending:
        """Stop an agent, a tenant, a class, an action or everything, at once; durable when this returns.

        Args:
            kind: what the name is.
            name: of what is stopped; none for everything.
            reason: why, for the audit log and for whoever decides about lifting.
            within_tenant: of a class or an action, in this tenant only.

        """
        request = override_pb2.ImposeOverrideRequest(target=target_of(kind, name, within_tenant), reason=reason)
        answer = await self._ask(lambda channel: override_pb2_grpc.OverrideServiceStub(channel).ImposeOverride, request)
        return Ending(position=answer.position, revoked=answer.revoked_credentials, override=answer.override_id)

    async def lift_override(self, override: str, *, reason: str) -> Ending:
        """Let go on what another operator has stopped; what was ended stays ended.

        Raises:
            Unmet: SECOND_PERSON_REQUIRED, this operator imposed it.

        """
        request = override_pb2.LiftOverrideRequest(override_id=override, reason=reason)
        answer = await self._ask(lambda channel: override_pb2_grpc.OverrideServiceStub(channel).LiftOverride, request)
        return Ending(position=answer.position, override=override)

    async def overrides(self) -> list[Override]:
        """Return what is stopped now, the oldest first, as far as it concerns this operator's tenants."""
        answer = await self._ask(
            lambda channel: override_pb2_grpc.OverrideServiceStub(channel).ListOverrides,
            override_pb2.ListOverridesRequest(),
        )
        return [override_of(each) for each in answer.overrides]

    # --- keys and log ----------------------------------------------------------------------------------------------

    async def key_set(self) -> KeySet:
        """Return the broker's public keys."""
        answer = await self._ask(
            lambda channel: keys_pb2_grpc.KeyServiceStub(channel).GetKeySet, keys_pb2.GetKeySetRequest()
        )
        keys = answer.key_set
        return KeySet(issuer=keys.issuer, jwks=keys.jwks, checkpoint_key=keys.checkpoint_key)

    async def list_keys(self) -> list[Key]:
        """Return the broker's keys with their states and times, for operators."""
        answer = await self._ask(
            lambda channel: keys_pb2_grpc.KeyServiceStub(channel).ListKeys, keys_pb2.ListKeysRequest()
        )
        return [key_of(each) for each in answer.keys]

    async def rotate_keys(self, use: str, *, reason: str = "", request_id: str = "") -> Rotation:
        """Let the next key follow the current one; durable when this returns.

        Args:
            use: "tokens" or "checkpoints".
            reason: why, for the audit log.
            request_id: asked again with the same, it is answered as it was, and nothing more is done.

        Raises:
            Unmet: KEY_NOT_READY, the next key was not published long enough; the detail says from when on it may sign.

        """
        request = keys_pb2.RotateKeysRequest(use=use_of(use), reason=reason, request_id=request_id)
        return await self._rotate(request)

    async def remove_key(self, kid: str, *, reason: str, request_id: str = "") -> Rotation:
        """Let a key count no more, at once and for ever, and another stand in for it; durable when this returns.

        Args:
            kid: which key; of any use.
            reason: why, for the audit log.
            request_id: as for `rotate_keys`.

        """
        request = keys_pb2.RotateKeysRequest(emergency_kid=kid, reason=reason, request_id=request_id)
        return await self._rotate(request)

    async def _rotate(self, request: keys_pb2.RotateKeysRequest) -> Rotation:
        return rotation_of(await self._ask(lambda channel: keys_pb2_grpc.KeyServiceStub(channel).RotateKeys, request))

    async def checkpoint(self) -> Checkpoint:
        """Return the newest checkpoint of the audit log."""
        answer = await self._ask(
            lambda channel: audit_pb2_grpc.AuditServiceStub(channel).GetCheckpoint, audit_pb2.GetCheckpointRequest()
        )
        return Checkpoint(note=answer.checkpoint.note, size=answer.checkpoint.size)

    async def _ask(
        self,
        method: Callable[[grpc.aio.Channel], grpc.aio.UnaryUnaryMultiCallable[Request, Answer]],
        request: Request,
        identity_token: str | None = None,
    ) -> Answer:
        metadata = authorization(identity_token)
        line = self._generations.line(self._generations.current(), self._broker)
        try:
            return await method(line.channel)(request, timeout=self._deadline, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, connection=line.tunnel.last_error) from error
