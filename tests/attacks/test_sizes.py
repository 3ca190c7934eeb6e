"""Sizes that a caller chooses (G2, G4): bounded before they cost anything, and the connection goes on."""

import grpc
import pytest

from broker.v1 import approval_pb2, audit_pb2
from tests.attacks.entrances import (
    BY_NAME,
    NOBODYS_APPROVAL,
    Entrance,
    approvals,
    at_every_entrance,
    drifted_tasks,
    outcome,
)
from tests.attacks.house import House
from tests.attacks.inventory import fields, methods
from tests.attacks.raw import PATHS, send
from tests.operations.world import SECURITY

# Who asks, and how, where the caller chooses how much.
PAGED = {
    "ListApprovals": (BY_NAME["ListApprovals"].who, approvals),
    "ListDriftedTasks": (BY_NAME["ListDriftedTasks"].who, drifted_tasks),
}
HUGE = (2**31 - 1, -1, -(2**31))
# Groups within groups, of which no message of ours has any: a decoder that recurses without bound falls here.
DEEP = b"\x0b" * 10_000 + b"\x0c" * 10_000


@at_every_entrance
async def test_g2_a_message_that_nests_ten_thousand_deep(house: House, entrance: Entrance) -> None:
    told = await send(house.good(entrance.who), PATHS[entrance.name], DEEP)
    assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED"), told
    assert (await entrance(house.good(entrance.who))).reason == entrance.control


async def test_g2_ten_thousand_entries_where_a_few_are_meant(house: House) -> None:
    kinds = [f"kind-{number}" for number in range(10_000)]
    asked = audit_pb2.SubscribeAuditRequest(filter=audit_pb2.AuditFilter(kinds=kinds))
    told = await send(house.good(SECURITY), PATHS["SubscribeAudit"], asked.SerializeToString())
    assert (told.code, told.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID")
    assert (await BY_NAME["SubscribeAudit"](house.good(SECURITY))).reason == ""


@pytest.mark.parametrize("paged", PAGED)
@pytest.mark.parametrize("size", HUGE)
async def test_g4_a_page_is_as_large_as_the_broker_says(house: House, paged: str, size: int) -> None:
    who, ask = PAGED[paged]
    usual = await ask(house.good(who))
    told = await outcome(ask(house.good(who), page_size=size))
    assert (told.code, told.reason) == (grpc.StatusCode.OK, "")
    assert told.answer == usual


@pytest.mark.parametrize("paged", PAGED)
@pytest.mark.parametrize("token", ["x", "0", "-1", "9" * 1024, "' or 1=1 --", NOBODYS_APPROVAL])
async def test_g4_a_page_token_that_is_made_up(house: House, paged: str, token: str) -> None:
    who, ask = PAGED[paged]
    told = await outcome(ask(house.good(who), page_token=token))
    assert told.code in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE), told
    assert told.reason != "INTERNAL"
    if isinstance(told.answer, approval_pb2.ListApprovalsResponse):
        assert not told.answer.approvals, "nothing is held here, and nobody else's is shown"
    if isinstance(told.answer, approval_pb2.ListDriftedTasksResponse):
        assert not told.answer.drifted_tasks, "nothing has drifted here"


def test_g4_no_other_rpc_lets_the_caller_choose_how_much() -> None:
    """Whoever adds a page size adds it above."""
    chosen = {
        f"{method.name}.{field}"
        for method in methods()
        for field in fields(method.input_type)
        if field.split(".")[-1] in ("page_size", "page_token", "limit", "offset", "size")
    }
    assert chosen == {f"{name}.{field}" for name in PAGED for field in ("page_size", "page_token")}
