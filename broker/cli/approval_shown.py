"""How a held request looks to whoever decides: as lines, a row, or an object. What an agent wrote hides nothing."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from broker.client import Answered, Approval, ApprovalDetails, Requirement
from broker.intent import Resource
from broker.visible import rows, shortened, visible

_PARAMETERS: Final = 48
_SHORT: Final = 40
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))

Line = tuple[str, str]


def row(approval: Approval, now: datetime) -> tuple[str, ...]:
    """Return the cells of a table's row: id, age, agent, action, resource, parameters, who approves, time left."""
    details = approval.details
    intent = details.intent if details else None
    return (
        approval.id,
        lasting(now - approval.requested_at),
        visible(approval.agent),
        visible(intent.action) if intent else "",
        shortened(_resource(intent.resource), _SHORT) if intent else "",
        _parameters(details) if details else "",
        "; ".join(map(needed, approval.requirements)),
        lasting(approval.pending_until - now) if approval.state == "pending" else approval.state,
    )


def _parameters(details: ApprovalDetails) -> str:
    """Return the parameters on one short line: shortened with what is missing counted, never silently."""
    members = [f"{path}={value}" for path, value in rows(details.intent.parameters) if path]
    shown: list[str] = []
    for member in members:
        left = _PARAMETERS - sum(map(len, shown))
        if left <= 0:
            return f"{' '.join(shown)} (+{len(members) - len(shown)} more)"
        shown.append(member if len(member) <= left else f"{member[:left]}... (+{len(member) - left} characters)")
    return " ".join(shown)


def needed(required: Requirement) -> str:
    """Return who has to say yes, and how many have."""
    match required.kind:
        case "group":
            groups = " or ".join((required.group, *required.escalated_to))
            return f"{required.approvals} of {required.quorum} of {visible(groups)}"
        case "user":
            return "the user" if not required.approvals else "the user has"
        case "authentication":
            return "the user, signed in anew" if not required.approvals else "the user has, signed in anew"
        case _:
            return visible(required.kind)


def lines(approval: Approval, now: datetime) -> Iterator[Line]:
    """Yield all of an approval, a name and a text each; what matters most comes last, next to the question.

    Args:
        approval: with its details, or without.
        now: UTC.

    """
    details = approval.details
    yield "approval", f"{approval.id}, {approval.state}"
    yield "asked", f"{shown_time(approval.requested_at)}, {lasting(now - approval.requested_at)} ago"
    yield from _agent(approval, details)
    if details:
        yield from _asked(details)
    for required in approval.requirements:
        yield "needs", needed(required) + _conditions(required)
    for answer in details.answers if details else ():
        yield "said yes", _answer(answer)
    if approval.reason:
        yield "reason", visible(approval.reason)
    if approval.bypass_until:
        yield "unasked until", shown_time(approval.bypass_until)
    if approval.state == "pending":
        yield "until", f"{shown_time(approval.pending_until)}, {lasting(approval.pending_until - now)} from now"
    if approval.usable_until:
        yield "usable until", shown_time(approval.usable_until)
    yield "intent digest", approval.intent_digest
    if details:
        yield "digest", details.digest


def _agent(approval: Approval, details: ApprovalDetails | None) -> Iterator[Line]:
    yield "agent", f"{visible(approval.agent)} for tenant {visible(approval.tenant)}"
    if details:
        yield "its owners", f"{visible(details.business_owner)}; {visible(details.security_owner)}"
        yield (
            "its history",
            (
                f"{details.granted} granted and {details.refused} refused since {shown_time(details.since)}; "
                f"of its held requests {details.approved} approved, {details.denied} denied"
            ),
        )
    if approval.task:
        yield "task", approval.task
    if details and details.task_begun_at and details.task_deadline:
        kind = f"of type {visible(details.task_type)}, " if details.task_type else ""
        person = f", for {visible(details.person)}" if details.person else ""
        yield (
            "its task",
            f"{kind}begun {shown_time(details.task_begun_at)}, ends {shown_time(details.task_deadline)}{person}",
        )


def _asked(details: ApprovalDetails) -> Iterator[Line]:
    intent = details.intent
    yield "would permit", ", ".join(map(visible, details.policy_ids))
    for path, value in rows(details.authorization_details):
        yield "would grant", f"{path} = {value}"
    yield "at most for", lasting(details.lifetime)
    yield "purpose", visible(intent.purpose)
    yield "at", visible(intent.audience)
    if intent.on_behalf_of:
        yield "says it is for", visible(intent.on_behalf_of)
    for name, level in (("sensitivity", intent.sensitivity), ("risk", intent.risk)):
        if level is not None:
            yield name, level.name.lower()
    for path, value in rows(intent.parameters):
        if path:
            yield "parameter", f"{path} = {value}"
    yield "resource", _resource(intent.resource)
    yield "action", visible(intent.action)


def _resource(resource: Resource) -> str:
    return f"{visible(resource.type)} {visible(resource.id)}" if resource.id else f"the set {visible(resource.set)}"


def _conditions(required: Requirement) -> str:
    found = [f"may then be used for {lasting(required.good_for)}"]
    if required.owners_excluded:
        found.append("its owners do not count")
    if required.max_age is not None:
        found.append(f"signed in at most {lasting(required.max_age)} ago")
    if required.bypass is not None:
        found.append(f"a bypass of at most {lasting(required.bypass)} may be given")
    return f" ({'; '.join(found)})"


def _answer(answer: Answered) -> str:
    how = "by identity token" if answer.by_token else "by SVID"
    bypass = f", with a bypass of {lasting(answer.bypass)}" if answer.bypass else ""
    return f"{visible(answer.person)}, {shown_time(answer.at)}, {how}{bypass}"


def lasting(duration: timedelta) -> str:
    """Return a duration in its two largest units, such as 1h 5m; nothing and less as 0s."""
    seconds = max(0, int(duration.total_seconds()))
    parts = []
    for unit, size in _UNITS:
        if seconds >= size:
            parts.append(f"{seconds // size}{unit}")
            seconds %= size
    return " ".join(parts[:2]) or "0s"


def shown_time(at: datetime) -> str:
    """Return a time in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def members(approval: Approval) -> dict[str, Any]:
    """Return what a program reads: times as text in UTC, durations in seconds, texts as they were written."""
    return {"kind": "approval", **{name: plain(value) for name, value in asdict(approval).items()}}


def plain(value: Any) -> Any:  # noqa: ANN401  # whatever asdict gives
    """Return a value as JSON has it: times as text in UTC, durations in seconds."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case timedelta():
            return int(value.total_seconds())
        case dict():
            return {name: plain(member) for name, member in value.items()}
        case list() | tuple():
            return [plain(member) for member in value]
        case _:
            return value
