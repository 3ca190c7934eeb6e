"""Customers over the wire: a chat's own SVID, a customer's token from a real issuer, at every RPC that takes it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from broker.intent import digest
from broker.settings import Oidc
from broker.v1 import approval_pb2, approval_pb2_grpc, task_pb2, task_pb2_grpc
from tests.attacks.entrances import NOBODYS_APPROVAL, PATIENCE, Outcome, request
from tests.attacks.house import House, open_house
from tests.attacks.raw import PATHS, send
from tests.attacks.test_identity_tokens import ACCOUNT, CUSTOMER, KEY, METHODS, TASK_PURPOSE, messages
from tests.fakes.identity import claims, header, signed
from tests.fakes.oidc_issuer import OidcIssuer
from tests.operations.world import CHAT, DUTY, ORDERS, SUPPORT

CLIENT, KATE, LIAM = "chat-client", "7001", "7002"
HELD = r'@step_up("{\"kind\": \"group\", \"group\": \"refund-approvers\", \"owners\": \"excluded\"}")'
CONFIRMED = r'@step_up("{\"kind\": \"authentication\", \"max_age\": \"PT5M\"}")'


@dataclass(kw_only=True)
class Shop:
    """A house with an issuer of customers, whose word about payout changes is asked for in the chat."""

    house: House
    issuer: OidcIssuer

    def token(self, subject: str = KATE, **changes: Any) -> str:
        return self.issuer.token(**{"sub": subject, "aud": CLIENT} | changes)

    async def asked(self, subject: str = KATE) -> task_pb2.BeginTaskResponse:
        begin = task_pb2.BeginTaskRequest(
            purpose=TASK_PURPOSE,
            agent=SUPPORT,
            person=f"{self.issuer.url}#{subject}",
            asked_digest=digest(b"change my account"),
        )
        return await task_pb2_grpc.TaskServiceStub(self.house.good(CHAT)).BeginTask(begin, timeout=PATIENCE)

    async def exchange(self, task: str, approval: str = "") -> Outcome:
        asked = request(
            action="customer.payout_change", parameters=ACCOUNT, task_id=task, resource=CUSTOMER, purpose=TASK_PURPOSE
        )
        asked.approval_id = approval
        return await send(self.house.good(SUPPORT), PATHS["Exchange"], asked.SerializeToString())

    async def held(self, subject: str = KATE) -> tuple[str, str]:
        """Let the agent ask for what is held; return its task and the approval's id."""
        task = (await self.asked(subject)).task.task_id
        outcome = await self.exchange(task)
        assert outcome.reason == "STEP_UP_REQUIRED", outcome
        return task, outcome.metadata["approval_id"]

    async def ask(self, method: str, message: Message, token: str, who: str = CHAT) -> Outcome:
        metadata = (("authorization", f"Bearer {token}"),)
        return await send(self.house.good(who), PATHS[method], message.SerializeToString(), metadata=metadata)

    def stub(self) -> "approval_pb2_grpc.ApprovalServiceAsyncStub":
        return approval_pb2_grpc.ApprovalServiceStub(self.house.good(CHAT))

    async def listed(self, token: str) -> list[approval_pb2.Approval]:
        found = await self.stub().ListApprovals(
            approval_pb2.ListApprovalsRequest(), metadata=(("authorization", f"Bearer {token}"),), timeout=PATIENCE
        )
        return list(found.approvals)


@pytest.fixture(scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    issuer = OidcIssuer(folder=tmp_path_factory.mktemp("oidc")).start()
    async with open_house() as house:
        configured = Oidc(issuer=issuer.url, ca_file=issuer.ca_file)
        house.settings = house.settings.model_copy(update={"oidc": (configured,)})
        await house.restart()
        sign_in = f'customers = [{{ front_end = "{CHAT}", issuer = "{issuer.url}", audience = "{CLIENT}" }}]\n'
        kind = 'name = "customer-case"\n'
        await house.policy(
            lambda texts: {
                "entities.toml": texts["entities.toml"].replace(kind, kind + sign_in),
                "writes.cedar": texts["writes.cedar"].replace(HELD, CONFIRMED),
            }
        )
        yield Shop(house=house, issuer=issuer)
    issuer.stop()


async def test_a_customer_confirms_in_the_chat(shop: Shop) -> None:
    watching = shop.stub().WatchApprovals(
        approval_pb2.WatchApprovalsRequest(),
        metadata=(("authorization", f"Bearer {shop.token()}"),),
        timeout=PATIENCE,
    )
    await watching.read()  # from now on
    await shop.held(LIAM)
    task, approval = await shop.held()
    changed: list[str] = []
    while not changed:
        page = await watching.read()
        assert isinstance(page, approval_pb2.WatchApprovalsResponse)
        changed += [each.approval_id for each in page.approvals]
    assert changed == [approval]
    watching.cancel()
    (mine,) = await shop.listed(shop.token())
    assert (mine.approval_id, bool(mine.details.digest)) == (approval, True)
    yes = approval_pb2.ApproveRequest(approval_id=approval, digest=mine.details.digest)
    assert (await shop.ask("Approve", yes, shop.token())).code is grpc.StatusCode.OK
    assert (await shop.exchange(task, approval)).code is grpc.StatusCode.OK
    assert (await shop.exchange(task, approval)).reason == "APPROVAL_USED"
    (event,) = [each for each in await shop.house.log() if each["type"] == "approval.approved"]
    assert (event["spiffe_id"], event["by_token"]) == (CHAT, True)
    assert event["opened"]["person"] == f"{shop.issuer.url}#{KATE}"


def wrong(shop: Shop) -> dict[str, tuple[str, str, str, str]]:
    """Which token is brought by whom, and what is said to that, with the check that it fails."""
    now, refused = datetime.now(UTC), "IDENTITY_TOKEN_REFUSED"
    mine, body = shop.issuer.keys[0], claims(iss=shop.issuer.url, aud=CLIENT, sub=KATE)
    return {
        "another-customer": (CHAT, shop.token(LIAM), "APPROVAL_UNKNOWN", ""),
        "expired": (CHAT, shop.token(exp=int(now.timestamp()) - 1), refused, "exp"),
        "another-client": (CHAT, shop.token(aud="another"), refused, "aud"),
        "another-issuer": (CHAT, shop.token(iss="https://evil.example"), refused, "iss"),
        "another-key": (CHAT, signed(KEY, header(KEY, kid=mine.kid), body), refused, "signature"),
        "stolen-by-a-service": (ORDERS, shop.token(), refused, "aud"),
        "stolen-by-an-operator": (DUTY, shop.token(), refused, "aud"),
    }


DRIFT = {"ListDriftedTasks": "", "ResumeTask": "TENANT_REFUSED"}


@pytest.mark.parametrize(
    "name",
    [
        "another-customer",
        "expired",
        "another-client",
        "another-issuer",
        "another-key",
        "stolen-by-a-service",
        "stolen-by-an-operator",
    ],
)
async def test_nothing_but_her_own_over_her_own_chat(shop: Shop, name: str) -> None:
    task, approval = await shop.held()
    (mine,) = [each for each in await shop.listed(shop.token()) if each.approval_id == approval]
    for method in METHODS:
        shop.house.time.ahead += timedelta(seconds=1)  # refusals of one source are counted by the second
        who, token, reason, detail = wrong(shop)[name]
        if reason == "APPROVAL_UNKNOWN" and method in {"ListApprovals", "WatchApprovals"}:
            assert approval not in {each.approval_id for each in await shop.listed(token)}
            continue
        outcome = await shop.ask(method, messages(approval, mine.details.digest)[method], token, who)
        if reason == "APPROVAL_UNKNOWN" and method in DRIFT:
            assert (outcome.reason, outcome.answer or b"") == (DRIFT[method], b""), "customers are told of no drift"
            continue
        assert (outcome.reason, outcome.metadata.get("detail", "")) == (reason, detail), outcome
        (event,) = await shop.house.recorded(outcome.request)
        assert (event["type"], event["reason"], event["spiffe_id"]) == ("request.refused", reason, who)
        shop.house.time.ahead += timedelta(seconds=1)
        nobodys = await shop.ask(method, messages(NOBODYS_APPROVAL)[method], token, who)
        assert (nobodys.reason, nobodys.metadata.get("detail", "")) == (reason, detail), (
            "the same for what is not there"
        )
    yes = messages(approval, mine.details.digest)["Approve"]
    assert (await shop.ask("Approve", yes, shop.token())).code is grpc.StatusCode.OK
    assert (await shop.exchange(task, approval)).code is grpc.StatusCode.OK


async def test_an_agent_with_a_customers_token_confirms_nothing(shop: Shop) -> None:
    task, approval = await shop.held()
    (mine,) = [each for each in await shop.listed(shop.token()) if each.approval_id == approval]
    yes = messages(approval, mine.details.digest)["Approve"]
    assert (await shop.ask("Approve", yes, shop.token(), who=SUPPORT)).reason == "APPROVER_REFUSED"
    stale = shop.token(auth_time=int(datetime.now(UTC).timestamp()) - 400)
    assert (await shop.ask("Approve", yes, stale)).reason == "AUTHENTICATION_STALE"
    assert (await shop.exchange(task, approval)).reason == "APPROVAL_PENDING"
    assert (await shop.ask("Approve", yes, shop.token())).code is grpc.StatusCode.OK
