"""Identity tokens over the wire: a tool's own SVID, a person's token, at every RPC that takes a person's word."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from broker.settings import Oidc
from broker.v1 import approval_pb2, approval_pb2_grpc, task_pb2, task_pb2_grpc, types_pb2
from tests.attacks.entrances import NOBODYS_TASK, PATIENCE, Outcome, items, request
from tests.attacks.house import House, open_house
from tests.attacks.raw import PATHS, send
from tests.fakes.identity import AUDIENCE, IdentityKey, claims, header, signed
from tests.fakes.oidc_issuer import OidcIssuer
from tests.operations.world import DUTY, SUPPORT
from tests.polling import eventually

TOOL = "spiffe://example.org/service/approvals"
ACCOUNT = '{"account": "DE02120300000000202051"}'
TASK_PURPOSE = "customer-support"
CUSTOMER = types_pb2.Resource(type="customer", id="c-77")


@dataclass(kw_only=True)
class Desk:
    """A house with an identity issuer, a tool that people approve through, and two of those people."""

    house: House
    issuer: OidcIssuer

    def stub(self, who: str = TOOL) -> "approval_pb2_grpc.ApprovalServiceAsyncStub":
        return approval_pb2_grpc.ApprovalServiceStub(self.house.good(who))

    def token(self, subject: str = "ana", **changes: Any) -> str:
        return self.issuer.token(sub=subject, **changes)

    async def held(self) -> str:
        """Let the agent ask for what the example bundle holds; return the approval's id."""
        agent = self.house.good(SUPPORT)
        begun = await task_pb2_grpc.TaskServiceStub(agent).BeginTask(
            task_pb2.BeginTaskRequest(purpose=TASK_PURPOSE), timeout=PATIENCE
        )
        asked = request(
            action="customer.payout_change", parameters=ACCOUNT, task_id=begun.task.task_id,
            resource=CUSTOMER, purpose=TASK_PURPOSE,
        )  # fmt: skip
        outcome = await send(agent, PATHS["Exchange"], asked.SerializeToString())
        assert outcome.reason == "STEP_UP_REQUIRED", outcome
        return outcome.metadata["approval_id"]

    async def ask(self, method: str, message: Message, token: str | None, who: str = TOOL) -> Outcome:
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        return await send(self.house.good(who), PATHS[method], message.SerializeToString(), metadata=metadata)

    async def digest(self, approval: str, subject: str = "ana") -> str:
        found = await self.stub().GetApproval(
            approval_pb2.GetApprovalRequest(approval_id=approval),
            metadata=(("authorization", f"Bearer {self.token(subject)}"),),
            timeout=PATIENCE,
        )
        return found.approval.details.digest


def persons(issuer: str) -> str:
    return f"""
[[service]]
spiffe_id = "{TOOL}"
tenants = ["retail"]

[[person]]
name = "ana"
tenants = ["retail"]
groups = ["refund-approvers"]
identities = [{{ issuer = "{issuer}", subject = "ana" }}, {{ issuer = "{issuer}", subject = "ana-again" }}]

[[person]]
name = "ben"
tenants = ["retail"]
groups = ["refund-approvers"]
identities = [{{ issuer = "{issuer}", subject = "ben" }}]

[[person]]
name = "wanda"
tenants = ["wholesale"]
groups = ["refund-approvers"]
identities = [{{ issuer = "{issuer}", subject = "wanda" }}]

[[person]]
name = "noel"
tenants = ["retail"]
identities = [{{ issuer = "{issuer}", subject = "noel" }}]
"""


PERMIT = f"""
@id("tool-answers")
permit (
    principal == Service::"{TOOL}",
    action in [Action::"broker.approval.decide", Action::"broker.approval.read"],
    resource is Task
);
"""


@pytest.fixture(scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    issuer = OidcIssuer(folder=tmp_path_factory.mktemp("oidc")).start()
    async with open_house() as house:
        configured = Oidc(issuer=issuer.url, audience=AUDIENCE, ca_file=issuer.ca_file)
        house.settings = house.settings.model_copy(update={"oidc": (configured,)})
        await house.restart()
        await house.policy(
            lambda texts: {
                "entities.toml": texts["entities.toml"] + persons(issuer.url),
                "broker.cedar": texts["broker.cedar"] + PERMIT,
            }
        )
        yield Desk(house=house, issuer=issuer)
    issuer.stop()


def messages(approval: str, digest: str = "sha-256:x") -> dict[str, Message]:
    """One request of each RPC that takes a person's word."""
    return {
        "ListApprovals": approval_pb2.ListApprovalsRequest(),
        "GetApproval": approval_pb2.GetApprovalRequest(approval_id=approval),
        "Approve": approval_pb2.ApproveRequest(approval_id=approval, digest=digest),
        "Deny": approval_pb2.DenyRequest(approval_id=approval, reason="no"),
        "ListDriftedTasks": approval_pb2.ListDriftedTasksRequest(),
        "ResumeTask": task_pb2.ResumeTaskRequest(task_id=NOBODYS_TASK, reason="a test"),
        "WatchApprovals": approval_pb2.WatchApprovalsRequest(),
    }


async def test_people_see_and_approve_through_the_tool(desk: Desk) -> None:
    approval = await desk.held()
    listed = await desk.stub().ListApprovals(
        approval_pb2.ListApprovalsRequest(),
        metadata=(("authorization", f"Bearer {desk.token()}"),),
        timeout=PATIENCE,
    )
    assert approval in {each.approval_id for each in listed.approvals}
    done = await desk.ask("Approve", messages(approval, await desk.digest(approval))["Approve"], desk.token())
    assert done.code is grpc.StatusCode.OK, done
    (event,) = [e for e in await desk.house.log() if e["type"].startswith("approval.") and e.get("approval") == approval
                and e.get("spiffe_id") == TOOL]  # fmt: skip
    assert "ana" not in event["content"].decode()
    assert "ana" in json.dumps(event["opened"])


KEY = IdentityKey.make("another")


def forged(desk: Desk) -> dict[str, tuple[str, str, str]]:
    """Tokens that say that they are Ana's, with the reason and the check that refuses each."""
    good, refused = desk.token(), "IDENTITY_TOKEN_REFUSED"
    mine, now = desk.issuer.keys[0], datetime.now(UTC)
    body = claims(now, iss=desk.issuer.url, sub="ana")
    head, payload, signature = good.split(".")
    return {
        "not-a-token": ("x", refused, "form"),
        "expired": (desk.token(exp=int(now.timestamp()) - 1), refused, "exp"),
        "for-another-tool": (desk.token(aud="another"), refused, "aud"),
        "of-another-issuer": (desk.token(iss="https://evil.example"), refused, "iss"),
        "another-key-by-its-kid": (signed(KEY, header(KEY, kid=mine.kid), body), refused, "signature"),
        "unknown-key": (signed(KEY, header(KEY), body), refused, "kid"),
        "brings-its-key": (signed(KEY, header(KEY, jwk=KEY.jwk()), body), refused, "header"),
        "names-a-key-url": (signed(KEY, header(KEY, jku="https://evil.example/keys"), body), refused, "header"),
        "crit": (signed(mine, header(mine, crit=["x"]), body), refused, "header"),
        "alg-none": (signed(mine, header(mine, alg="none"), body), refused, "alg"),
        "access-token": (signed(mine, header(mine, typ="at+jwt"), body), refused, "typ"),
        "logout-token": (desk.token(events={}), refused, "events"),
        "duplicate-claim": (
            signed(mine, header(mine), b'{"sub": "ben", ' + json.dumps(body).encode()[1:]), refused, "form",
        ),
        "changed": (f"{head}.{payload}.{signature[:-4]}AAAA", refused, "signature"),
        "unknown-person": (desk.token("mallory"), "PERSON_UNKNOWN", ""),
        "another-case": (desk.token("Ana"), "PERSON_UNKNOWN", ""),
    }  # fmt: skip


FORGERIES = (
    "not-a-token", "expired", "for-another-tool", "of-another-issuer", "another-key-by-its-kid", "unknown-key",
    "brings-its-key", "names-a-key-url", "crit", "alg-none", "access-token", "logout-token", "duplicate-claim",
    "changed", "unknown-person", "another-case",
)  # fmt: skip
METHODS = ("ListApprovals", "GetApproval", "Approve", "Deny", "ListDriftedTasks", "ResumeTask", "WatchApprovals")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_token_opens_no_entrance_and_is_recorded(desk: Desk, name: str, method: str) -> None:
    desk.house.time.ahead += timedelta(seconds=1)  # refusals of one source are counted by the second
    token, reason, check = forged(desk)[name]
    message = messages("appr_0190a0a0-0000-7000-8000-000000000000")[method]
    outcome = await desk.ask(method, message, token)
    assert (outcome.reason, outcome.metadata.get("detail", "")) == (reason, check), outcome
    (event,) = await desk.house.recorded(outcome.request)
    assert (event["type"], event["reason"], event["spiffe_id"]) == ("request.refused", reason, TOOL)
    if len(token) > 20:
        assert token.rpartition(".")[2] not in json.dumps(event["opened"]) + event["content"].decode()


@pytest.mark.parametrize("method", METHODS)
async def test_more_than_one_authorization_is_none(desk: Desk, method: str) -> None:
    message = messages("appr_0190a0a0-0000-7000-8000-000000000000")[method].SerializeToString()
    sent = [("authorization", f"Bearer {desk.token()}"), ("authorization", f"Bearer {desk.token('ben')}")]
    desk.house.time.ahead += timedelta(seconds=1)
    for metadata in (sent, [("authorization", "Basic YTpi")]):
        outcome = await send(desk.house.good(TOOL), PATHS[method], message, metadata=metadata)
        assert outcome.reason == "IDENTITY_TOKEN_REFUSED"
        assert await desk.house.recorded(outcome.request)


async def test_a_tool_without_a_token_is_nobody_who_approves(desk: Desk) -> None:
    approval = await desk.held()
    sent = messages(approval, await desk.digest(approval))
    for method in ("GetApproval", "Approve", "Deny"):
        assert (await desk.ask(method, sent[method], None)).reason in {"APPROVAL_UNKNOWN", "APPROVER_REFUSED"}
    assert (await desk.ask("Approve", sent["Approve"], desk.token())).code is grpc.StatusCode.OK


async def test_an_agent_with_a_persons_token_approves_nothing(desk: Desk) -> None:
    approval = await desk.held()
    message = messages(approval, await desk.digest(approval))["Approve"]
    outcome = await desk.ask("Approve", message, desk.token(), who=SUPPORT)
    assert outcome.reason in {"APPROVER_REFUSED", "PERSON_UNKNOWN"}
    assert (await desk.ask("Approve", message, desk.token())).code is grpc.StatusCode.OK


@pytest.mark.parametrize("subject", ["wanda", "noel"])
async def test_a_person_of_another_tenant_or_group_approves_nothing(desk: Desk, subject: str) -> None:
    approval = await desk.held()
    message = messages(approval, await desk.digest(approval))["Approve"]
    outcome = await desk.ask("Approve", message, desk.token(subject))
    assert outcome.reason in {"APPROVER_REFUSED", "APPROVAL_UNKNOWN"}
    assert (await desk.ask("Approve", message, desk.token("ben"))).code is grpc.StatusCode.OK


async def test_one_person_with_two_identities_counts_once(desk: Desk) -> None:
    def two(texts: dict[str, str]) -> dict[str, str]:
        once = r"\"group\": \"refund-approvers\""
        return {"writes.cedar": texts["writes.cedar"].replace(once, once + r", \"quorum\": 2")}

    before = (desk.house.settings.policy.dir / "writes.cedar").read_text()
    await desk.house.policy(two)
    approval = await desk.held()
    stub, states = desk.stub(), approval_pb2.ApprovalState
    digest = await desk.digest(approval)

    async def says_yes(subject: str) -> str:
        answer = await stub.Approve(
            approval_pb2.ApproveRequest(approval_id=approval, digest=digest),
            metadata=(("authorization", f"Bearer {desk.token(subject)}"),),
            timeout=PATIENCE,
        )
        return states.Name(answer.approval.state)

    assert [await says_yes(subject) for subject in ("ana", "ana-again", "ana")] == ["APPROVAL_STATE_PENDING"] * 3
    assert await says_yes("ben") == "APPROVAL_STATE_APPROVED"
    await desk.house.policy(lambda _: {"writes.cedar": before})


async def test_elsewhere_a_token_is_not_looked_at(desk: Desk) -> None:
    """It neither helps nor harms, whatever it is: nobody but an approver is told by it."""
    content = request(purpose=TASK_PURPOSE).SerializeToString()
    for value in (f"Bearer {desk.token()}", "Basic YTpi", "x"):
        metadata = [("authorization", value)]
        outcome = await send(desk.house.good(SUPPORT), PATHS["Exchange"], content, metadata=metadata)
        assert outcome.code is grpc.StatusCode.OK
        streamed = items(request(purpose=TASK_PURPOSE)).SerializeToString()
        outcome = await send(desk.house.good(SUPPORT), PATHS["ExchangeStream"], streamed, metadata=metadata)
        assert outcome.code is grpc.StatusCode.OK


async def test_the_issuers_keys_rotate_and_the_next_token_counts(desk: Desk) -> None:
    old = desk.token()
    assert (await desk.ask("ListApprovals", messages("x")["ListApprovals"], old)).code is grpc.StatusCode.OK
    before, desk.issuer.keys = desk.issuer.keys, [IdentityKey.make("rotated", "RS256")]

    async def counts() -> bool | None:
        """At once, unless an unknown key was asked for in the seconds before."""
        outcome = await desk.ask("ListApprovals", messages("x")["ListApprovals"], desk.token())
        return outcome.code is grpc.StatusCode.OK or None

    assert await eventually(counts, within=30)
    stale = await desk.ask("ListApprovals", messages("x")["ListApprovals"], old)
    assert (stale.reason, stale.metadata["detail"]) == ("IDENTITY_TOKEN_REFUSED", "kid")
    assert before[0].kid != desk.issuer.keys[0].kid


async def test_the_operator_of_one_person_does_not_come_with_the_token_of_another(desk: Desk) -> None:
    await desk.house.policy(
        lambda texts: {
            "entities.toml": texts["entities.toml"].replace(
                'name = "ana"\ntenants = ["retail"]\ngroups = ["refund-approvers"]',
                f'name = "ana"\ntenants = ["retail"]\ngroups = ["refund-approvers", "duty"]\nspiffe_ids = ["{DUTY}"]',
            )
        }
    )
    message = messages("x")["ListApprovals"]
    assert (await desk.ask("ListApprovals", message, desk.token(), who=DUTY)).code is grpc.StatusCode.OK
    assert (await desk.ask("ListApprovals", message, None, who=DUTY)).code is grpc.StatusCode.OK
    assert (await desk.ask("ListApprovals", message, desk.token("ben"), who=DUTY)).reason == "IDENTITY_TOKEN_REFUSED"
