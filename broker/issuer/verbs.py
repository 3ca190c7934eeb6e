"""Every verb of the port but exchange: which frame carries it, and how its call and its answer convert. One table."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from broker.errors import Refusal
from broker.issuer import approval_verbs
from broker.issuer import convert_answers as answers
from broker.issuer import convert_calls as calls
from broker.issuer import convert_keys as keys
from broker.issuer import convert_outcomes as outcomes
from broker.issuer import convert_overrides as overrides
from broker.issuer import convert_redemptions as redemptions
from broker.issuer import convert_tasks as tasks
from broker.issuer.convert import decode_refusal, encode_refusal, from_microseconds, to_microseconds
from broker.issuer.v1 import port_pb2 as v1
from broker.issuer.verb import PAGE_WEIGHT, Verb


def _encode_recorded(refusal: Refusal) -> v1.Recorded:
    return v1.Recorded(refusal=encode_refusal(refusal))


def _decode_recorded(message: v1.Recorded) -> Refusal:
    return decode_refusal(message.refusal)


def _encode_authenticated(valid_until: datetime) -> v1.Authenticated:
    return v1.Authenticated(valid_until_us=to_microseconds(valid_until))


def _decode_authenticated(message: v1.Authenticated) -> datetime:
    return from_microseconds(message.valid_until_us)


def _encode_state_call(_: None) -> v1.StateCall:
    return v1.StateCall()


def _decode_state_call(_: v1.StateCall) -> None:
    return None


BEGIN_TASK: Final = Verb(
    call="begin_task",
    answer="task",
    encode_call=tasks.encode_begin_task,
    decode_call=tasks.decode_begin_task,
    encode_answer=tasks.encode_task,
    decode_answer=tasks.decode_task,
    ask=lambda issuer, call: issuer.begin_task(call),
)
END_TASK: Final = Verb(
    call="end_task",
    answer="ended",
    encode_call=tasks.encode_end_task,
    decode_call=tasks.decode_end_task,
    encode_answer=answers.encode_ended,
    decode_answer=answers.decode_ended,
    ask=lambda issuer, call: issuer.end_task(call),
)
HEARTBEAT_TASK: Final = Verb(
    call="heartbeat_task",
    answer="continued",
    encode_call=tasks.encode_heartbeat,
    decode_call=tasks.decode_heartbeat,
    encode_answer=tasks.encode_continued,
    decode_answer=tasks.decode_continued,
    ask=lambda issuer, call: issuer.heartbeat_task(call),
)
NARROW_TASK: Final = Verb(
    call="narrow_task",
    answer="continued",
    encode_call=tasks.encode_narrow_task,
    decode_call=tasks.decode_narrow_task,
    encode_answer=tasks.encode_continued,
    decode_answer=tasks.decode_continued,
    ask=lambda issuer, call: issuer.narrow_task(call),
)
RESUME_TASK: Final = Verb(
    call="resume_task",
    answer="ended",
    encode_call=tasks.encode_resume_task,
    decode_call=tasks.decode_resume_task,
    encode_answer=answers.encode_ended,
    decode_answer=answers.decode_ended,
    ask=lambda issuer, call: issuer.resume_task(call),
)
REPORT: Final = Verb(
    call="report",
    answer="reported",
    encode_call=outcomes.encode_report_call,
    decode_call=outcomes.decode_report_call,
    encode_answer=outcomes.encode_reported,
    decode_answer=outcomes.decode_reported,
    ask=lambda issuer, call: issuer.report(call),
)
REVOKE: Final = Verb(
    call="revoke",
    answer="ended",
    encode_call=calls.encode_revoke,
    decode_call=calls.decode_revoke,
    encode_answer=answers.encode_ended,
    decode_answer=answers.decode_ended,
    ask=lambda issuer, call: issuer.revoke(call),
)
LIFT: Final = Verb(
    call="lift",
    answer="ended",
    encode_call=calls.encode_lift,
    decode_call=calls.decode_lift,
    encode_answer=answers.encode_ended,
    decode_answer=answers.decode_ended,
    ask=lambda issuer, call: issuer.lift(call),
)
REDEEM: Final = Verb(
    call="redeem",
    answer="redeemed",
    encode_call=redemptions.encode_redeem,
    decode_call=redemptions.decode_redeem,
    encode_answer=redemptions.encode_redeemed,
    decode_answer=redemptions.decode_redeemed,
    ask=lambda issuer, call: issuer.redeem(call),
)
IMPOSE_OVERRIDE: Final = Verb(
    call="impose_override",
    answer="overridden",
    encode_call=overrides.encode_impose,
    decode_call=overrides.decode_impose,
    encode_answer=overrides.encode_overridden,
    decode_answer=overrides.decode_overridden,
    ask=lambda issuer, call: issuer.impose_override(call),
    urgent=True,
)
LIFT_OVERRIDE: Final = Verb(
    call="lift_override",
    answer="overridden",
    encode_call=overrides.encode_lift_override,
    decode_call=overrides.decode_lift_override,
    encode_answer=overrides.encode_overridden,
    decode_answer=overrides.decode_overridden,
    ask=lambda issuer, call: issuer.lift_override(call),
    urgent=True,
)
LIST_OVERRIDES: Final = Verb(
    call="list_overrides",
    answer="overrides",
    encode_call=calls.encode_read,
    decode_call=calls.decode_read,
    encode_answer=overrides.encode_override_list,
    decode_answer=overrides.decode_override_list,
    ask=lambda issuer, call: issuer.list_overrides(call),
    urgent=True,
)
KEY_SET: Final = Verb(
    call="read_key_set",
    answer="key_set",
    encode_call=calls.encode_read,
    decode_call=calls.decode_read,
    encode_answer=answers.encode_key_set,
    decode_answer=answers.decode_key_set,
    ask=lambda issuer, call: issuer.key_set(call),
)
LIST_KEYS: Final = Verb(
    call="list_keys",
    answer="keys",
    encode_call=calls.encode_read,
    decode_call=calls.decode_read,
    encode_answer=keys.encode_key_list,
    decode_answer=keys.decode_key_list,
    ask=lambda issuer, call: issuer.list_keys(call),
)
ROTATE_KEYS: Final = Verb(
    call="rotate_keys",
    answer="keys_changed",
    encode_call=keys.encode_rotate_keys,
    decode_call=keys.decode_rotate_keys,
    encode_answer=keys.encode_keys_changed,
    decode_answer=keys.decode_keys_changed,
    ask=lambda issuer, call: issuer.rotate_keys(call),
)
CHECKPOINT: Final = Verb(
    call="read_checkpoint",
    answer="checkpoint",
    encode_call=calls.encode_read,
    decode_call=calls.decode_read,
    encode_answer=answers.encode_checkpoint,
    decode_answer=answers.decode_checkpoint,
    ask=lambda issuer, call: issuer.checkpoint(call),
)
REFUSE: Final = Verb(
    call="refuse",
    answer="recorded",
    encode_call=calls.encode_refused,
    decode_call=calls.decode_refused,
    encode_answer=_encode_recorded,
    decode_answer=_decode_recorded,
    ask=lambda issuer, call: issuer.refuse(call),
)
AUTHENTICATE: Final = Verb(
    call="authenticate",
    answer="authenticated",
    encode_call=calls.encode_read,
    decode_call=calls.decode_read,
    encode_answer=_encode_authenticated,
    decode_answer=_decode_authenticated,
    ask=lambda issuer, call: issuer.authenticate(call),
)
REVOCATION_PAGE: Final = Verb(
    call="read_revocations",
    answer="revocation_page",
    encode_call=calls.encode_revocation_page_call,
    decode_call=calls.decode_revocation_page_call,
    encode_answer=answers.encode_revocation_page,
    decode_answer=answers.decode_revocation_page,
    ask=lambda issuer, call: issuer.revocation_page(call),
    weight=PAGE_WEIGHT,
)
AUDIT_PAGE: Final = Verb(
    call="read_audit",
    answer="audit_page",
    encode_call=calls.encode_audit_page_call,
    decode_call=calls.decode_audit_page_call,
    encode_answer=answers.encode_audit_page,
    decode_answer=answers.decode_audit_page,
    ask=lambda issuer, call: issuer.audit_page(call),
    weight=PAGE_WEIGHT,
)
STATE: Final = Verb(
    call="read_state",
    answer="state",
    encode_call=_encode_state_call,
    decode_call=_decode_state_call,
    encode_answer=answers.encode_state,
    decode_answer=answers.decode_state,
    ask=lambda issuer, _: issuer.state(),
)

_ALL: Final[tuple[Verb[Any, Any], ...]] = (
    BEGIN_TASK,
    END_TASK,
    HEARTBEAT_TASK,
    NARROW_TASK,
    RESUME_TASK,
    REPORT,
    REVOKE,
    LIFT,
    REDEEM,
    IMPOSE_OVERRIDE,
    LIFT_OVERRIDE,
    LIST_OVERRIDES,
    *approval_verbs.ALL,
    KEY_SET,
    LIST_KEYS,
    ROTATE_KEYS,
    CHECKPOINT,
    REFUSE,
    AUTHENTICATE,
    REVOCATION_PAGE,
    AUDIT_PAGE,
    STATE,
)
VERBS: Final[Mapping[str, Verb[Any, Any]]] = {verb.call: verb for verb in _ALL}
