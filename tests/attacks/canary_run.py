"""Canaries go through a whole broker, a guarded service and the commands; what comes out is kept."""

import json
import os
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc

from broker.intent import Resource, call_digest
from broker.settings import Oidc
from broker.v1 import (
    approval_pb2,
    approval_pb2_grpc,
    exchange_pb2,
    keys_pb2,
    override_pb2,
    override_pb2_grpc,
    revoke_pb2,
    revoke_pb2_grpc,
    task_pb2,
    task_pb2_grpc,
    types_pb2,
)
from broker.validator import Bounds, Validation, open_validator
from tests.attacks import entrances as to
from tests.attacks.canary import Place, token_forms
from tests.attacks.canary_ends import bad_input, commands, keep_files, read_everything
from tests.attacks.canary_kept import SERVICE, Run, canary
from tests.attacks.house import House
from tests.attacks.raw import PATHS, send
from tests.fakes.identity import AUDIENCE
from tests.fakes.oidc_issuer import OidcIssuer
from tests.fakes.trust_domain import pem
from tests.operations.world import CHAT, DUTY, ORDERS, SECURITY, SUPPORT, WHOLESALE
from tests.polling import eventually
from tests.validator.guarded import serving

TOOL = "spiffe://example.org/service/approvals"


@asynccontextmanager
async def canary_run(house: House, folder: Path) -> AsyncIterator[Run]:
    """Let all of it through."""
    async with AsyncExitStack() as stack:
        oidc = OidcIssuer(folder=folder).start()
        stack.callback(oidc.stop)
        run = Run(house=house, oidc=oidc, stack=stack)
        run.say("environment", home=Place.SENT)
        os.environ["MODEL_PROVIDER_KEY"] = canary("environment")
        stack.callback(os.environ.pop, "MODEL_PROVIDER_KEY")
        await _furnish(run)
        credential = await _exchanges(run)
        await _approvals(run)
        await _service(run, credential, folder / "spool")
        await _operators(run, credential)
        await bad_input(run)
        await commands(run, credential.credential_id, folder)
        await read_everything(run)
        yield run


async def _furnish(run: Run) -> None:
    """Let people approve through a tool, by identity tokens."""
    house, person = run.house, run.say("approver's name", Place.APPROVERS)
    configured = Oidc(issuer=run.oidc.url, audience=AUDIENCE, ca_file=run.oidc.ca_file)
    house.settings = house.settings.model_copy(update={"oidc": (configured,)})
    await house.restart()
    subject = run.say("approver's subject", home=Place.SENT)
    tool = f'\n[[service]]\nspiffe_id = "{TOOL}"\ntenants = ["retail"]\n'
    added = f"""{tool}
[[person]]
name = "{person}"
tenants = ["retail"]
groups = ["refund-approvers"]
identities = [{{ issuer = "{run.oidc.url}", subject = "{subject}" }}]
"""
    rule = f"""
@id("tool-answers")
permit (principal == Service::"{TOOL}",
    action in [Action::"broker.approval.decide", Action::"broker.approval.read"], resource is Task);
"""
    await house.policy(
        lambda texts: {
            "entities.toml": texts["entities.toml"] + added,
            "broker.cedar": texts["broker.cedar"] + rule,
        }
    )


async def _exchanges(run: Run) -> types_pb2.Credential:
    """Give credentials, one by one and in a stream; return the one that is good once."""
    agent = run.to(SUPPORT)
    talk = run.say("conversation", Place.ANSWERS)
    task = (await run.ask(to.begin_task(agent, conversation=talk))).task.task_id
    asked = to.request(
        action="order.refund", task_id=task, on_behalf_of=run.say("person acted for"),
        parameters=json.dumps({"amount": 700, "currency": "EUR", "note": run.say("parameter", Place.ANSWERS)}),
    )  # fmt: skip
    prompt = _digest("the prompt")
    run.hold("prompt's digest", [prompt.encode()], Place.PERSONAL, Place.STORE)
    trail = {
        "prompt_digest": prompt,
        "prompt_reference": run.say("prompt reference"),
        "tool_call_reference": run.say("tool call reference"),
    }
    asked.trail.CopyFrom(exchange_pb2.Trail(**trail))
    once: types_pb2.Credential = (await run.ask(to.exchange(agent, asked))).credential
    streamed = (await run.ask(to.conversation(agent, asked))).credential
    read = (await run.ask(to.exchange(agent, to.request()))).credential
    for name, given in (("an exchange", once), ("a conversation", streamed), ("a read", read)):
        run.hold(f"token of {name}", token_forms(given.token), Place.ANSWERS)
    run.hold("intent's digest", [once.intent_digest.encode()], Place.PERSONAL, Place.ANSWERS, Place.STORE)
    await run.refuse(
        to.exchange(agent, to.request(
            action="order.refund", task_id=task,
            parameters=json.dumps({"amount": 9999, "currency": "EUR", "note": run.say("refused parameter")}),
        )),
        reason="POLICY_FORBIDDEN",
    )  # fmt: skip
    return once


def _digest(text: str) -> str:
    return "sha-256:" + urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()


async def _held(run: Run, task: str, account: str) -> str:
    asked = to.request(
        action="customer.payout_change", parameters=json.dumps({"account": account}), task_id=task,
        resource=types_pb2.Resource(type="customer", id="c-77"),
    )  # fmt: skip
    told = await to.outcome(to.exchange(run.to(SUPPORT), asked))
    assert told.reason == "STEP_UP_REQUIRED", told
    run.keep(Place.ERRORS, told.everything)
    return told.metadata["approval_id"]


async def _approvals(run: Run) -> None:
    """Hold three intents, of a task that the chat began for a person: one is approved, denied, withdrawn each."""
    person = run.say("person of a task", Place.APPROVERS)
    asked = _digest("what the person asked")
    run.hold("digest of what was asked", [asked.encode()], Place.PERSONAL, Place.STORE)
    begun = await run.ask(to.begin_task(run.to(CHAT), agent=SUPPORT, person=person, asked_digest=asked))
    account = run.say("held parameter", Place.APPROVERS, Place.ANSWERS)
    one, two, three = [await _held(run, begun.task.task_id, f"{account}{n}") for n in range(3)]
    token = run.oidc.token(sub=canary("approver's subject"))
    run.hold("identity token", token_forms(token)[:1] + token_forms(token)[2:], Place.SENT)
    another = run.oidc.token(sub=canary("approver's subject"), aud="another")
    run.hold("refused identity token", token_forms(another)[:1] + token_forms(another)[2:], Place.SENT)
    run.keep(Place.SENT, token, another)
    stub = approval_pb2_grpc.ApprovalServiceStub(run.to(TOOL))
    by: dict[str, Any] = {"metadata": (("authorization", f"Bearer {token}"),), "timeout": to.PATIENCE}
    await run.ask(stub.ListApprovals(approval_pb2.ListApprovalsRequest(), **by), Place.APPROVERS)
    watching: Any = stub.WatchApprovals(approval_pb2.WatchApprovalsRequest(), **by)
    await run.ask(to.first(watching), Place.APPROVERS)
    shown = await run.ask(stub.GetApproval(approval_pb2.GetApprovalRequest(approval_id=one), **by), Place.APPROVERS)
    approve = approval_pb2.ApproveRequest(approval_id=one, digest=shown.approval.details.digest)
    await run.ask(stub.Approve(approve, **by), Place.APPROVERS)
    reason = run.say("reason of a denial", Place.APPROVERS, Place.ANSWERS)
    await run.ask(stub.Deny(approval_pb2.DenyRequest(approval_id=two, reason=reason), **by), Place.APPROVERS)
    await run.refuse(
        send(run.to(TOOL), PATHS["GetApproval"], approval_pb2.GetApprovalRequest(approval_id=one).SerializeToString(),
             metadata=[("authorization", f"Bearer {another}")]),
        reason="IDENTITY_TOKEN_REFUSED",
    )  # fmt: skip
    away = approval_pb2.WithdrawApprovalRequest(
        approval_id=three, reason=run.say("reason of a withdrawal", Place.APPROVERS, Place.ANSWERS)
    )
    agents = approval_pb2_grpc.ApprovalServiceStub(run.to(SUPPORT))
    await run.ask(agents.WithdrawApproval(away, timeout=to.PATIENCE))
    for each in (one, two, three):
        await run.ask(to.approval(run.to(SUPPORT), each))
        await run.ask(stub.GetApproval(approval_pb2.GetApprovalRequest(approval_id=each), **by), Place.APPROVERS)


async def _service(run: Run, once: types_pb2.Credential, spool: Path) -> None:
    """Present tokens to a guarded service, good and bad; let it redeem one, and report."""
    house, channel = run.house, run.to(ORDERS)
    own = run.svids[ORDERS]
    patient = Bounds.same(timedelta(minutes=5))
    async with open_validator(
        channel=channel, issuer="https://broker.example.org", audience=ORDERS, bounds=patient, spool=spool
    ) as validation:
        await validation.feed.ready()
        pair = [(own.private_key, own.certificate_chain)]
        credentials = grpc.ssl_server_credentials(pair, pem(house.home.bundle), require_client_auth=True)
        async with serving(validation, house.identity.bundles, credentials) as port:
            await _present(run, validation, port)
            keep_files(run, Place.SPOOL, spool)
    key = run.say("key of a redemption", Place.STORE, home=Place.SENT)[:64]
    digest = call_digest(
        action="order.refund", resource=Resource(type="order", id="1234"), tenant="retail",
        parameters={"amount": 700, "currency": "EUR", "note": canary("parameter")},
    )  # fmt: skip
    run.hold("call's digest", [digest.encode()], Place.PERSONAL, Place.STORE)
    await run.ask(to.redeem(channel, once.credential_id, digest=digest, key=key))


async def _present(run: Run, validation: Validation, port: int) -> None:
    given = (await run.ask(to.exchange(run.to(SUPPORT), to.request()))).credential
    run.hold("token that a service accepted", token_forms(given.token), Place.ANSWERS)
    trusted = pem(run.house.home.bundle)
    rogue, use = run.say("token that is none", home=Place.SENT), ""
    for who, token in ((SUPPORT, given.token), (WHOLESALE, given.token), (SUPPORT, rogue)):
        run.to(who)
        svid = run.svids[who]
        secure = grpc.ssl_channel_credentials(trusted, svid.private_key, svid.certificate_chain)
        options = [("grpc.ssl_target_name_override", SERVICE), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", secure, options=options) as channel:
            asked = task_pb2.BeginTaskRequest(purpose="1234", tenant="retail", conversation="later")
            call: Any = task_pb2_grpc.TaskServiceStub(channel).BeginTask(
                asked, metadata=(("authorization", f"Bearer {token}"),), timeout=to.PATIENCE
            )
            told = await to.outcome(call)
            run.keep(Place.ERRORS, told.everything)
            assert (told.reason == "") == (who == SUPPORT and token == given.token), told
            use = use or told.answer.task.conversation
    assert validation.reports is not None
    reports = validation.reports.use(use, given.credential_id)
    reference = run.say("reference of an outcome", Place.SPOOL)
    assert await reports.rolled_back(reference=reference, by=run.say("who undid it", Place.SPOOL))

    async def sent() -> bool:
        return "outcome.reported" in {each["type"] for each in await run.house.log()}

    await eventually(sent)


async def _operators(run: Run, once: types_pb2.Credential) -> None:
    """Revoke, stop, lift, cancel, narrow, resume, rotate: with reasons."""
    security, agent, feed = run.to(SECURITY), run.to(SUPPORT), to.revocations(run.to(ORDERS), timeout=60)
    run.keep(Place.FEED, await feed.read())
    stub = revoke_pb2_grpc.RevocationServiceStub(security)
    rule = revoke_pb2.RevocationRule(agent=WHOLESALE)
    revoked = await run.ask(
        stub.Revoke(revoke_pb2.RevokeRequest(rule=rule, reason=run.say("reason of a revocation")), timeout=to.PATIENCE)
    )
    lift = revoke_pb2.LiftRevocationRequest(revocation_id=revoked.revocation_id, reason=run.say("reason of a lift"))
    await run.ask(stub.LiftRevocation(lift, timeout=to.PATIENCE))
    await run.ask(to.revoke(security, credential_id=once.credential_id))
    overrides = override_pb2_grpc.OverrideServiceStub(security)
    stop = override_pb2.ImposeOverrideRequest(
        target=override_pb2.OverrideTarget(agent=WHOLESALE), reason=run.say("reason of an override", Place.ANSWERS)
    )
    stopped = await run.ask(overrides.ImposeOverride(stop, timeout=to.PATIENCE))
    await run.ask(to.overrides(security))
    go_on = override_pb2.LiftOverrideRequest(override_id=stopped.override_id, reason=run.say("reason to go on"))
    duty = override_pb2_grpc.OverrideServiceStub(run.to(DUTY))
    await run.ask(duty.LiftOverride(go_on, timeout=to.PATIENCE))
    (kid, *_) = [key.kid for key in (await run.ask(to.list_keys(security))).keys if key.use == keys_pb2.KEY_USE_TOKENS]
    await run.ask(to.rotate_keys(security, emergency_kid=kid, reason=run.say("reason of a rotation")))
    await _tasks(run, agent, security)
    while b"revoked {" not in run.places[Place.FEED]:
        run.keep(Place.FEED, await feed.read())
    feed.cancel()


async def _tasks(run: Run, agent: grpc.aio.Channel, security: grpc.aio.Channel) -> None:
    tasks = task_pb2_grpc.TaskServiceStub(agent)
    task = (await run.ask(to.begin_task(agent))).task.task_id
    narrow = task_pb2.NarrowTaskRequest(
        task_id=task, boundary=types_pb2.TaskBoundary(actions=["order.read"]), reason=run.say("reason of a narrowing")
    )
    await run.ask(tasks.NarrowTask(narrow, timeout=to.PATIENCE))
    for _ in range(5):
        await run.refuse(to.exchange(agent, to.request(action="order.cancel", task_id=task)))
    resume = task_pb2.ResumeTaskRequest(task_id=task, reason=run.say("reason to resume"))
    await run.ask(task_pb2_grpc.TaskServiceStub(security).ResumeTask(resume, timeout=to.PATIENCE))
    cancel = task_pb2.CancelTaskRequest(task_id=task, reason=run.say("reason of a cancellation"))
    await run.ask(tasks.CancelTask(cancel, timeout=to.PATIENCE))
