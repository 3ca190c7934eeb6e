"""Calls and answers about approvals ⇄ messages of the port."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from broker.intent import canonical_json
from broker.issuer.convert import (
    MAX_ID,
    MAX_NAME,
    MAX_TEXT,
    Malformed,
    bounded,
    decode_context,
    encode_context,
    from_microseconds,
    to_duration,
    to_microseconds,
)
from broker.issuer.convert_answers import decode_page, encode_page
from broker.issuer.convert_drifted import decode_drifted, encode_drifted
from broker.issuer.convert_exchange import decode_intent, decode_scope, encode_intent, encode_scope
from broker.issuer.convert_tasks import decode_task, encode_task
from broker.issuer.port import (
    ApprovalAnswered,
    ApprovalCall,
    ApprovalList,
    ApprovalPage,
    ApprovalPageCall,
    ApprovalState,
    ApproveCall,
    Details,
    History,
    ListApprovalsCall,
    Progress,
    ShownApproval,
    Yes,
)
from broker.issuer.v1 import port_pb2 as v1
from broker.policy.step_up import step_up_from_json

MAX_STATES: Final = 16
MAX_TOKEN: Final = 1024
_MICROSECOND: Final = timedelta(microseconds=1)
_STATES: Final[Mapping[ApprovalState, v1.ApprovalState.ValueType]] = {
    ApprovalState.PENDING: v1.APPROVAL_STATE_PENDING,
    ApprovalState.APPROVED: v1.APPROVAL_STATE_APPROVED,
    ApprovalState.DENIED: v1.APPROVAL_STATE_DENIED,
    ApprovalState.EXPIRED: v1.APPROVAL_STATE_EXPIRED,
    ApprovalState.WITHDRAWN: v1.APPROVAL_STATE_WITHDRAWN,
    ApprovalState.USED: v1.APPROVAL_STATE_USED,
}
_STATES_BACK: Final = {message: state for state, message in _STATES.items()}


# --- calls --------------------------------------------------------------------------------------------------------


def encode_list(call: ListApprovalsCall) -> v1.ListApprovalsCall:
    """Return the message of a call for approvals."""
    return v1.ListApprovalsCall(
        context=encode_context(call.context),
        states=[_STATES[state] for state in call.states],
        page_size=call.page_size,
        page_token=call.page_token,
    )


def decode_list(message: v1.ListApprovalsCall) -> ListApprovalsCall:
    """Return a call for approvals."""
    if len(message.states) > MAX_STATES:
        raise Malformed("states")
    return ListApprovalsCall(
        context=decode_context(message.context),
        states=tuple(_STATES_BACK[state] for state in message.states),
        page_size=message.page_size,
        page_token=bounded(message.page_token, MAX_TOKEN, "page_token"),
    )


def encode_approval_call(call: ApprovalCall) -> v1.ApprovalCall:
    """Return the message of a call about one approval."""
    return v1.ApprovalCall(context=encode_context(call.context), approval=call.approval, text=call.text)


def decode_approval_call(message: v1.ApprovalCall) -> ApprovalCall:
    """Return a call about one approval."""
    return ApprovalCall(
        context=decode_context(message.context),
        approval=bounded(message.approval, MAX_ID, "approval"),
        text=bounded(message.text, MAX_TEXT, "text"),
    )


def encode_approve(call: ApproveCall) -> v1.ApproveCall:
    """Return the message of a yes."""
    return v1.ApproveCall(
        context=encode_context(call.context),
        approval=call.approval,
        digest=call.digest,
        bypass_us=to_duration(call.bypass),
    )


def decode_approve(message: v1.ApproveCall) -> ApproveCall:
    """Return a yes."""
    bypass = message.bypass_us * _MICROSECOND if message.HasField("bypass_us") else None
    if bypass is not None and bypass <= timedelta(0):
        raise Malformed("bypass_us")
    return ApproveCall(
        context=decode_context(message.context),
        approval=bounded(message.approval, MAX_ID, "approval"),
        digest=bounded(message.digest, MAX_NAME, "digest"),
        bypass=bypass,
    )


def encode_page_call(call: ApprovalPageCall) -> v1.ApprovalPageCall:
    """Return the message of a call for what has changed."""
    return v1.ApprovalPageCall(context=encode_context(call.context), cursor=call.cursor)


def decode_page_call(message: v1.ApprovalPageCall) -> ApprovalPageCall:
    """Return a call for what has changed."""
    return ApprovalPageCall(
        context=decode_context(message.context),
        cursor=bounded(message.cursor, MAX_TOKEN, "cursor"),
    )


# --- answers ------------------------------------------------------------------------------------------------------


def encode_shown(shown: ShownApproval) -> v1.Approval:
    """Return the message of an approval."""
    return v1.Approval(
        id=shown.id,
        state=_STATES[shown.state],
        agent=shown.agent,
        tenant=shown.tenant,
        task=shown.task,
        requested_at_us=to_microseconds(shown.requested_at),
        pending_until_us=to_microseconds(shown.pending_until),
        decided_at_us=_time(shown.decided_at),
        usable_until_us=_time(shown.usable_until),
        intent_digest=shown.intent_digest,
        requirements=[
            v1.ApprovalRequirement(
                required=canonical_json(each.required.to_json()).decode(),
                escalated_to=each.escalated_to,
                approvals=each.approvals,
            )
            for each in shown.requirements
        ],
        bypass_until_us=_time(shown.bypass_until),
        text=shown.text,
        details=None if shown.details is None else _encode_details(shown.details),
    )


def decode_shown(message: v1.Approval) -> ShownApproval:
    """Return an approval."""
    return ShownApproval(
        id=message.id,
        state=_STATES_BACK[message.state],
        agent=message.agent,
        tenant=message.tenant,
        task=message.task,
        requested_at=from_microseconds(message.requested_at_us),
        pending_until=from_microseconds(message.pending_until_us),
        intent_digest=message.intent_digest,
        requirements=tuple(
            Progress(
                required=step_up_from_json(json.loads(each.required)),
                escalated_to=tuple(each.escalated_to),
                approvals=each.approvals,
            )
            for each in message.requirements
        ),
        decided_at=from_microseconds(message.decided_at_us) if message.HasField("decided_at_us") else None,
        usable_until=from_microseconds(message.usable_until_us) if message.HasField("usable_until_us") else None,
        bypass_until=from_microseconds(message.bypass_until_us) if message.HasField("bypass_until_us") else None,
        text=message.text,
        details=_decode_details(message.details) if message.HasField("details") else None,
    )


def _time(at: datetime | None) -> int | None:
    return None if at is None else to_microseconds(at)


def _encode_details(details: Details) -> v1.ApprovalDetails:
    history = details.history
    return v1.ApprovalDetails(
        digest=details.digest,
        nonce=details.nonce,
        intent=encode_intent(details.intent),
        scope=encode_scope(details.scope),
        lifetime_us=details.lifetime // _MICROSECOND,
        policy_ids=details.policy_ids,
        business_owner=details.business_owner,
        security_owner=details.security_owner,
        since_us=to_microseconds(history.since),
        granted=history.granted,
        refused=history.refused,
        approved=history.approved,
        denied=history.denied,
        task=None if details.task is None else encode_task(details.task),
        answers=[_encode_yes(yes) for yes in details.answers],
    )


def _encode_yes(yes: Yes) -> v1.ApprovalAnswer:
    return v1.ApprovalAnswer(
        person=yes.person, at_us=to_microseconds(yes.at), by_token=yes.by_token, bypass_us=to_duration(yes.bypass)
    )


def _decode_details(message: v1.ApprovalDetails) -> Details:
    return Details(
        digest=message.digest,
        nonce=message.nonce,
        intent=decode_intent(message.intent),
        scope=decode_scope(message.scope),
        lifetime=message.lifetime_us * _MICROSECOND,
        policy_ids=tuple(message.policy_ids),
        business_owner=message.business_owner,
        security_owner=message.security_owner,
        history=History(
            since=from_microseconds(message.since_us),
            granted=message.granted,
            refused=message.refused,
            approved=message.approved,
            denied=message.denied,
        ),
        task=decode_task(message.task) if message.HasField("task") else None,
        answers=tuple(
            Yes(
                person=each.person,
                at=from_microseconds(each.at_us),
                by_token=each.by_token,
                bypass=each.bypass_us * _MICROSECOND if each.HasField("bypass_us") else None,
            )
            for each in message.answers
        ),
    )


def encode_approval_list(found: ApprovalList) -> v1.ApprovalList:
    """Return the message of approvals."""
    return v1.ApprovalList(
        approvals=[encode_shown(each) for each in found.approvals], next_page_token=found.next_page_token
    )


def decode_approval_list(message: v1.ApprovalList) -> ApprovalList:
    """Return approvals."""
    return ApprovalList(
        approvals=tuple(decode_shown(each) for each in message.approvals), next_page_token=message.next_page_token
    )


def encode_answered(answered: ApprovalAnswered) -> v1.ApprovalAnswered:
    """Return the message of what an answer did."""
    return v1.ApprovalAnswered(approval=encode_shown(answered.shown), position=answered.position)


def decode_answered(message: v1.ApprovalAnswered) -> ApprovalAnswered:
    """Return what an answer did."""
    return ApprovalAnswered(
        shown=decode_shown(message.approval), position=message.position if message.HasField("position") else None
    )


def encode_approval_page(page: ApprovalPage) -> v1.ApprovalPage:
    """Return the message of a page of approvals."""
    return v1.ApprovalPage(
        page=encode_page(page.page),
        approvals=[encode_shown(each) for each in page.approvals],
        drifted=[encode_drifted(each) for each in page.drifted],
    )


def decode_approval_page(message: v1.ApprovalPage) -> ApprovalPage:
    """Return a page of approvals."""
    return ApprovalPage(
        page=decode_page(message.page),
        approvals=tuple(decode_shown(each) for each in message.approvals),
        drifted=tuple(decode_drifted(each) for each in message.drifted),
    )
