"""OCSF: an event as the Open Cybersecurity Schema Framework has it, for those whose tools speak that.

docs/formats/siem.md shows the map. What has no place in the schema stands in `unmapped`, and the event itself, byte for
byte, in `raw_data`: its leaf hash can be computed from that. An event of a type that is younger than this map becomes a
Base Event.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from broker.audit.ocsf_schema import (
    API,
    BASE,
    ENTITY,
    FAILURE,
    LIFECYCLE,
    OTHER,
    SCHEMA,
    SESSION,
    SUCCESS,
    UNKNOWN,
    Attributes,
    Kind,
)
from broker.audit.shape import microseconds
from broker.audit.shown import Shown

PRODUCT: Final = MappingProxyType({"name": "spiffe-credential-broker", "vendor_name": "spiffe-credential-broker"})
_STATUS: Final = MappingProxyType({UNKNOWN: "Unknown", SUCCESS: "Success", FAILURE: "Failure"})
_SEVERITIES: Final = ("Unknown", "Informational", "Low", "Medium", "High", "Critical")
# Members that stand elsewhere in each form; everything else is repeated in `unmapped`.
_PLACED: Final = frozenset({"v", "type", "at", "spiffe_id", "decision", "tenant", "reason", "commitments"})
# The attributes of a class that hold personal values; in a class without them, `unmapped` does.
_PLACED_OPENINGS: Final = MappingProxyType({"source": "src_endpoint", "text": "comment"})


def to_ocsf(event: Shown) -> Attributes:
    """Return an event in the schema's form: one JSON object."""
    kind = KINDS.get(event.type, _UNKNOWN)
    activity = kind.activity if isinstance(kind.activity, int) else kind.activity(event)
    named = kind.of.activities.get(activity) or kind.name or _operation(event)
    filled = kind.fill(event)
    return _classified(kind, activity, named) | {
        "time": event.microseconds // 1000,
        "message": _message(event),
        "metadata": _metadata(event),
        "raw_data": event.text,
        **_status(event, kind.status),
        **filled,
        **_unmapped(event, filled),
    }


def _classified(kind: Kind, activity: int, named: str) -> Attributes:
    return {
        "category_uid": kind.of.category_uid,
        "category_name": kind.of.category,
        "class_uid": kind.of.uid,
        "class_name": kind.of.name,
        "activity_id": activity,
        "activity_name": named,
        "type_uid": kind.of.uid * 100 + activity,
        "type_name": f"{kind.of.name}: {named}",
        "severity_id": kind.severity,
        "severity": _SEVERITIES[kind.severity],
    }


def _message(event: Shown) -> str:
    who = event.members.get("spiffe_id")
    return f"{event.members['type']} by {who}" if who else str(event.members["type"])


def _metadata(event: Shown) -> Attributes:
    members = event.members
    found = {
        "tenant_uid": members.get("tenant"),
        "correlation_uid": members.get("transaction") or members.get("task") or members.get("request"),
    }
    return {
        "version": SCHEMA,
        "product": dict(PRODUCT),
        "log_name": "audit",
        "event_code": members["type"],
        "sequence": event.position,
        "original_time": members["at"],
    } | _present(found)


def _status(event: Shown, status: int) -> Attributes:
    found = {"status_code": event.members.get("reason"), "status_detail": event.opened.get("detail")}
    return {"status_id": status, "status": _STATUS[status]} | _present(found)


def _unmapped(event: Shown, filled: Attributes) -> Attributes:
    rest = {name: value for name, value in event.members.items() if name not in _PLACED}
    personal = {name: value for name, value in event.opened.items() if _PLACED_OPENINGS.get(name, "") not in filled}
    return _present({"unmapped": rest | _present({"personal": personal})})


def _present(attributes: Mapping[str, Any]) -> Attributes:
    return {name: value for name, value in attributes.items() if value not in (None, "", {}, [])}


# --- objects of the schema -----------------------------------------------------------------------------------------


def _user(spiffe_id: str) -> Attributes:
    if not spiffe_id:
        return {"name": "unverified"}
    return {"uid": spiffe_id, "name": spiffe_id, "type_id": OTHER, "type": "Workload"}


def _actor(event: Shown) -> Attributes:
    decision = event.members.get("decision", {})
    outcome = "Denied" if "reason" in event.members else "Allowed"
    policies = [{"uid": policy, "version": decision.get("bundle", "")} for policy in decision.get("policies", ())]
    authorizations = [{"decision": outcome, "policy": policy} for policy in policies]
    if decision and not authorizations:
        authorizations = [{"decision": outcome}]
    return {"user": _user(event.members.get("spiffe_id", ""))} | _present({"authorizations": authorizations})


def _source(event: Shown) -> Attributes:
    """Return where a request came from: its address when that was shown, else by name."""
    peer = event.peer
    name = {"svc_name": event.members.get("spiffe_id") or "unverified"}
    return name | _present({"ip": peer.address, "port": peer.port}) if peer else name


def _called(event: Shown) -> Attributes:
    operation = _operation(event)
    request = _present({"uid": event.members.get("request")})
    response = _present({"error": event.members.get("reason"), "error_message": event.opened.get("detail")})
    api = {"operation": operation, "service": {"name": PRODUCT["name"]}} | _present(
        {"request": request, "response": response}
    )
    return {"actor": _actor(event), "api": api, "src_endpoint": _source(event)}


def _session(event: Shown) -> Attributes:
    members = event.members
    session = {"uid": members["credential"], "expiration_time": microseconds(members["expires_at"]) // 1000}
    return {
        "actor": _actor(event),
        "user": _user(members.get("spiffe_id", "")),
        "privileges": [members["intent"]["action"]],
        "session": session,
        "src_endpoint": _source(event),
        "dst_endpoint": {"svc_name": members["audience"]},
    }


def _entity(what: str, uid: str, *, name: str = "") -> Callable[[Shown], Attributes]:
    """Return what fills in the entity, of which the event names id and name by the members that are given."""

    def fill(event: Shown) -> Attributes:
        members = event.members
        entity = {"uid": members.get(uid), "name": members.get(name) or members.get(uid) or what}
        called = {"actor": _actor(event), "src_endpoint": _source(event)} if "request" in members else {}
        return {"entity": {"type": what} | _present(entity), **called} | _present({"comment": event.opened.get("text")})

    return fill


def _nothing(_: Shown) -> Attributes:
    return {}


def _started(event: Shown) -> Attributes:
    return {
        "app": dict(PRODUCT)
        | _present({"uid": event.members.get("spiffe_id"), "version": event.members.get("version")})
    }


def _suppressed(event: Shown) -> Attributes:
    return {"count": event.members["count"]}


# --- the map -------------------------------------------------------------------------------------------------------

_CALLS: Final = MappingProxyType(
    {
        "exchange": 1,
        "begin_task": 1,
        "end_task": 3,
        "cancel_task": 3,
        "narrow_task": 3,
        "resume_task": 3,
        "report_outcomes": 1,
        "heartbeat_task": 3,
        "redeem": 3,
        "revoke": 1,
        "lift_revocation": 4,
        "impose_override": 1,
        "lift_override": 4,
        "list_overrides": 2,
        "list_approvals": 2,
        "get_approval": 2,
        "approve": 3,
        "deny": 3,
        "withdraw_approval": 3,
        "watch_approvals": 2,
        "rotate_keys": 3,
        "get_key_set": 2,
        "list_keys": 2,
        "health": 2,
        "get_checkpoint": 2,
        "subscribe_audit": 2,
        "subscribe_revocations": 2,
    }
)
_KEY_STATES: Final = MappingProxyType({"next": 1, "current": 10, "retired": 11, "removed": 4})


def _operation(event: Shown) -> str:
    """Return which call an event is about, by the broker's own name of it; the type of an event about none."""
    members = event.members
    if event.type == "exchange.refused":
        return "exchange"
    if event.type == "stream.opened":
        return f"subscribe_{members['stream']}"
    return str(members.get("operation", members["type"]))


def _activity_of_call(event: Shown) -> int:
    return _CALLS.get(_operation(event), OTHER)


def _activity_of_key(event: Shown) -> int:
    return _KEY_STATES.get(str(event.members.get("state")), OTHER)


_UNKNOWN: Final = Kind(of=BASE, activity=OTHER, severity=UNKNOWN, status=UNKNOWN, fill=_nothing)
KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "credential.granted": Kind(of=SESSION, activity=1, fill=_session),
        "credential.reissued": Kind(
            of=ENTITY, activity=OTHER, name="Reissue", fill=_entity("Credential", "credential")
        ),
        "credential.redeemed": Kind(of=ENTITY, activity=OTHER, name="Redeem", fill=_entity("Credential", "credential")),
        "exchange.refused": Kind(of=API, activity=_activity_of_call, severity=2, status=FAILURE, fill=_called),
        "request.refused": Kind(of=API, activity=_activity_of_call, severity=2, status=FAILURE, fill=_called),
        "refusals.suppressed": Kind(
            of=BASE, activity=OTHER, name="Suppress", severity=3, status=FAILURE, fill=_suppressed
        ),
        "task.begun": Kind(of=ENTITY, activity=1, fill=_entity("Task", "task")),
        "task.narrowed": Kind(of=ENTITY, activity=3, fill=_entity("Task", "task")),
        "task.judged": Kind(of=ENTITY, activity=3, severity=2, fill=_entity("Task", "task")),
        "task.ended": Kind(of=ENTITY, activity=11, fill=_entity("Task", "task")),
        "task.drifted": Kind(of=ENTITY, activity=3, severity=3, fill=_entity("Task", "task")),
        "task.escalated": Kind(of=ENTITY, activity=3, severity=3, fill=_entity("Task", "task")),
        "task.resumed": Kind(of=ENTITY, activity=10, severity=2, fill=_entity("Task", "task")),
        "usage.accepted": Kind(of=ENTITY, activity=OTHER, name="Use", fill=_entity("Credential", "credential")),
        "usage.refused": Kind(
            of=ENTITY,
            activity=OTHER,
            name="Use",
            severity=2,
            status=FAILURE,
            fill=_entity("Credential", "credential"),
        ),
        "outcome.reported": Kind(of=ENTITY, activity=3, fill=_entity("Use", "use")),
        "reports.dropped": Kind(
            of=ENTITY, activity=OTHER, name="Drop", severity=3, status=FAILURE, fill=_entity("Report", "report")
        ),
        "revocation.made": Kind(
            of=ENTITY, activity=1, severity=2, fill=_entity("Revocation", "revocation", name="name")
        ),
        "revocation.lifted": Kind(of=ENTITY, activity=4, severity=2, fill=_entity("Revocation", "revocation")),
        "override.imposed": Kind(of=ENTITY, activity=1, severity=3, fill=_entity("Override", "override", name="name")),
        "override.lifted": Kind(of=ENTITY, activity=4, severity=3, fill=_entity("Override", "override")),
        "approval.requested": Kind(of=ENTITY, activity=1, severity=2, fill=_entity("Approval", "approval")),
        "approval.approved": Kind(
            of=ENTITY, activity=OTHER, name="Approve", severity=2, fill=_entity("Approval", "approval")
        ),
        "approval.bypass": Kind(
            of=ENTITY, activity=OTHER, name="Bypass", severity=3, fill=_entity("Approval", "approval")
        ),
        "approval.denied": Kind(
            of=ENTITY, activity=OTHER, name="Deny", severity=2, fill=_entity("Approval", "approval")
        ),
        "approval.withdrawn": Kind(of=ENTITY, activity=11, fill=_entity("Approval", "approval")),
        "approval.expired": Kind(of=ENTITY, activity=11, severity=2, fill=_entity("Approval", "approval")),
        "approval.escalated": Kind(of=ENTITY, activity=3, severity=2, fill=_entity("Approval", "approval")),
        "policy.activated": Kind(of=ENTITY, activity=10, fill=_entity("Policy Bundle", "bundle")),
        "policy.rejected": Kind(
            of=ENTITY, activity=10, severity=3, status=FAILURE, fill=_entity("Policy Bundle", "bundle")
        ),
        "key.changed": Kind(of=ENTITY, activity=_activity_of_key, fill=_entity("Key", "kid")),
        "keys.rotated": Kind(of=ENTITY, activity=3, severity=2, fill=_entity("Key", "kid")),
        "stream.opened": Kind(of=API, activity=_activity_of_call, fill=_called),
        "broker.started": Kind(of=LIFECYCLE, activity=3, fill=_started),
    }
)
