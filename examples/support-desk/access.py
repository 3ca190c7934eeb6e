"""The middle steps: a credential given, used, stolen, refused and taken back."""

import json
from datetime import UTC, datetime
from typing import Any, Final

from narrator import Mismatch, Narrator, require
from stage import BROKER_ID, ISSUER, WORKLOADS, Stage
from workers import Answer

AGENT: Final = "support-assistant"
OTHER: Final = "wholesale-assistant"
SERVICE: Final = WORKLOADS["orders-service"]
PURPOSE: Final = "customer-support"
ORDER: Final = "1234"
OTHERS_ORDER: Final = "8001"
READ_POLICY: Final = "order-readers-may-look-up-orders"
REFUND_POLICY: Final = "support-may-refund"
REFUND_LIMIT: Final = "no-refund-beyond-limit"
REVOKE_POLICY: Final = "security-revokes-and-lifts"  # the log says so too: see aftermath
_SHORT_LIVED: Final = 300  # seconds: what the policy allows at most


def permitted(narrator: Narrator, stage: Stage) -> str:
    """Get a credential for one order; return its id."""
    narrator.begin("A tool call that is permitted")
    narrator.asked(f"by the {AGENT}: may I do order.read on order {ORDER}, for {PURPOSE}?")
    thumbprint = stage.workers[AGENT].get("identity")["thumbprint"]
    got = read_order(stage, AGENT, ORDER)
    require(got["policies"] == [READ_POLICY], f"the policy that permits is {READ_POLICY}")
    claims = got["claims"]
    _check_claims(claims, thumbprint)
    narrator.decided(f"permitted by policy {READ_POLICY}, decision {got['decision']}", good=True)
    narrator.came_back("a credential; decoded, without its signature:")
    narrator.members({name: _shown(name, value) for name, value in {**got["header"], **claims}.items()})
    return str(got["credential"])


def accepted(narrator: Narrator, stage: Stage, credential: str) -> None:
    """Use it."""
    narrator.begin("The orders service accepts it")
    port = stage.workers["orders-service"].get("state")["port"]
    stage.ports.add(port)
    for name in (AGENT, OTHER):
        stage.workers[name].get("reach", service_address=f"127.0.0.1:{port}")
    narrator.asked(f"GetOrder({ORDER}) over mutual TLS, with the credential")
    found = stage.workers[AGENT].get("get_order", credential=credential, order=ORDER)
    require(found["article"] == "coffee grinder", "the service answers with the order")
    narrator.decided("accepted: signature, audience, tenant, action, order, the caller's key, not revoked", good=True)
    narrator.came_back(f"{found['article']}, {found['price_cents'] / 100:.2f} EUR")


def stolen(narrator: Narrator, stage: Stage, credential: str) -> None:
    """Have another agent, which the service accepts, send the same token."""
    narrator.begin("The same credential, stolen")
    own = read_order(stage, OTHER, OTHERS_ORDER)["credential"]
    found = stage.workers[OTHER].get("get_order", credential=own, order=OTHERS_ORDER)
    narrator.asked(f"by the {OTHER}: GetOrder({OTHERS_ORDER}), with a credential of its own")
    narrator.decided(f"accepted ({found['article']}): its SVID and its connection are good", good=True)
    token = stage.workers[AGENT].get("leak", credential=credential)["token"]
    narrator.asked(f"by the {OTHER}: GetOrder({ORDER}), with the stolen one")
    refused = refusal_of(stage.workers[OTHER].ask("use_stolen", token=token, order=ORDER), "TOKEN_HOLDER_MISMATCH")
    narrator.decided(f"refused: {refused['reason']}", good=False)
    narrator.came_back(refused["next_step"])
    again = stage.workers[AGENT].get("get_order", credential=credential, order=ORDER)
    require(again["article"] == "coffee grinder", "the rightful holder's call still goes through")
    narrator.note(f"the {AGENT} itself is still served with it")


def forbidden(narrator: Narrator, stage: Stage) -> None:
    """Ask for what a named policy forbids, beside what the same agent may do."""
    narrator.begin("An intent that a policy forbids")
    agent = stage.workers[AGENT]
    task = agent.get("begin_task", purpose=PURPOSE)["task"]
    small = agent.get("ask", **_refund(4_200))
    require(small["policies"] == [REFUND_POLICY], f"a small refund is permitted by {REFUND_POLICY}")
    paid = agent.get("refund", credential=small["credential"], order=ORDER, amount_cents=4_200)
    require(paid["refunded_cents"] == 4_200, "the service pays the small refund")  # noqa: PLR2004
    narrator.asked(f"by the {AGENT}, in {task}: a refund of 42.00 EUR")
    narrator.decided(f"permitted by policy {REFUND_POLICY}; the service paid", good=True)
    narrator.asked("and one of 250.00 EUR")
    refused = refusal_of(agent.ask("ask", **_refund(25_000)), "POLICY_FORBIDDEN")
    require(refused["policies"] == [REFUND_LIMIT], f"the policy that forbids is {REFUND_LIMIT}")
    narrator.decided(f"refused: POLICY_FORBIDDEN by policy {REFUND_LIMIT}, decision {refused['decision']}", good=False)
    narrator.came_back(f"for its user: “{refused['sentence']}”")
    agent.get("end_task")


def not_permitted(narrator: Narrator, stage: Stage) -> None:
    """Ask for what no policy speaks of."""
    narrator.begin("An intent that nothing permits")
    narrator.asked(f"by the {OTHER}: may I do customer.read on customer c-77?")
    answer = stage.workers[OTHER].ask("ask", action="customer.read", resource=["customer", "c-77"], purpose=PURPOSE)
    refused = refusal_of(answer, "POLICY_NOT_PERMITTED")
    require(not refused["policies"], "no policy is named, because none applies")
    narrator.decided(f"refused: {refused['reason']}; no policy permits it, so the answer is no", good=False)
    narrator.came_back(f"for its user: “{refused['sentence']}”")


def revoked(narrator: Narrator, stage: Stage, credential: str) -> None:
    """Take the credential back while it is in use, and measure how long it still opens the service."""
    narrator.begin("The credential is revoked")
    stage.workers[AGENT].get("keep_calling", credential=credential, order=ORDER)
    narrator.asked(f"by the security desk: revoke {credential}, which the {AGENT} is using all the while")
    done = stage.workers["security"].get("revoke", credential=credential, reason="It was stolen.")
    require(done["revoked"] == 1, "exactly one credential ends")
    refused = stage.workers[AGENT].get("refused_at")
    require(refused["reason"] == "TOKEN_REVOKED", f"the reason is TOKEN_REVOKED, not {refused['reason']}")
    recorded = (done["answered_at"] - done["called_at"]) / 1e6
    until = (refused["at"] - done["called_at"]) / 1e6
    require(until > 0, "the refusal comes after the call to revoke")
    narrator.decided(
        f"permitted by policy {REVOKE_POLICY}; event {done['position']} of the log, durable after {recorded:.1f} ms",
        good=True,
    )
    narrator.came_back(f"from the service: {refused['reason']}, {until:.1f} ms after the call to revoke")
    narrator.note(f"measured on one host clock, with {refused['accepted']} accepted calls of the loop before it")


def read_order(stage: Stage, name: str, order: str) -> dict[str, Any]:
    """Have an agent ask for a credential to read one order."""
    return stage.workers[name].get("ask", action="order.read", resource=["order", order], purpose=PURPOSE)


def _check_claims(claims: dict[str, Any], thumbprint: str) -> None:
    require(claims["iss"] == ISSUER, "the broker issued it")
    require(claims["sub"] == WORKLOADS[AGENT], f"it is the {AGENT}'s")
    require(claims["sub"] != BROKER_ID, "it is not the broker's own")
    require(claims["aud"] == SERVICE, "it is for the orders service alone")
    require(claims["tenant"] == "retail", "it is pinned to the agent's tenant")
    require(claims["cnf"] == {"x5t#S256": thumbprint}, "it is bound to the agent's own key")
    require(0 < claims["exp"] - claims["iat"] <= _SHORT_LIVED, "it lives for minutes")
    details = json.dumps(claims["authorization_details"])
    require("order.read" in details and ORDER in details, "it covers the one action on the one order")


def _refund(cents: int) -> dict[str, Any]:
    return {
        "action": "order.refund",
        "resource": ["order", ORDER],
        "purpose": PURPOSE,
        "parameters": {"amount": cents, "currency": "EUR"},
    }


def refusal_of(answer: Answer, reason: str) -> dict[str, Any]:
    """Return how it was refused; anything but a refusal with this reason is a mismatch."""
    if answer.refused is None:
        raise Mismatch(f"the answer is a refusal with reason {reason}")
    require(answer.refused["reason"] == reason, f"the reason is {reason}, not {answer.refused['reason']}")
    return answer.refused


def _shown(name: str, value: object) -> str:
    if name in {"iat", "nbf", "exp"} and isinstance(value, int):
        return f"{value}  ({datetime.fromtimestamp(value, UTC):%H:%M:%S} UTC)"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
