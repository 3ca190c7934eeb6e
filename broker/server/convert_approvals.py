"""Approvals ⇄ messages of the public proto."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from google.protobuf.duration_pb2 import Duration

from broker.credential.claims import authorization_details
from broker.intent import Intent, Level, canonical_json
from broker.issuer.port import (
    ApprovalPage,
    ApprovalState,
    Details,
    DriftState,
    Progress,
    ShownApproval,
    ShownDrifted,
    Task,
    Yes,
)
from broker.policy.step_up import StepUpKind
from broker.server.convert import heartbeat, timestamp
from broker.v1 import approval_pb2, types_pb2

_STATES: Final[Mapping[ApprovalState, approval_pb2.ApprovalState.ValueType]] = MappingProxyType(
    {
        ApprovalState.PENDING: approval_pb2.APPROVAL_STATE_PENDING,
        ApprovalState.APPROVED: approval_pb2.APPROVAL_STATE_APPROVED,
        ApprovalState.DENIED: approval_pb2.APPROVAL_STATE_DENIED,
        ApprovalState.EXPIRED: approval_pb2.APPROVAL_STATE_EXPIRED,
        ApprovalState.WITHDRAWN: approval_pb2.APPROVAL_STATE_WITHDRAWN,
        ApprovalState.USED: approval_pb2.APPROVAL_STATE_USED,
    }
)
_STATES_BACK: Final = MappingProxyType({message: state for state, message in _STATES.items()})
_KINDS: Final[Mapping[StepUpKind, approval_pb2.StepUpKind.ValueType]] = MappingProxyType(
    {
        StepUpKind.USER: approval_pb2.STEP_UP_KIND_USER,
        StepUpKind.AUTHENTICATION: approval_pb2.STEP_UP_KIND_AUTHENTICATION,
        StepUpKind.GROUP: approval_pb2.STEP_UP_KIND_GROUP,
    }
)
_DRIFT_STATES: Final[Mapping[DriftState, approval_pb2.DriftState.ValueType]] = MappingProxyType(
    {
        DriftState.OPEN: approval_pb2.DRIFT_STATE_OPEN,
        DriftState.RESUMED: approval_pb2.DRIFT_STATE_RESUMED,
        DriftState.ENDED: approval_pb2.DRIFT_STATE_ENDED,
    }
)
_LEVELS: Final[Mapping[Level | None, types_pb2.Level.ValueType]] = MappingProxyType(
    {
        None: types_pb2.LEVEL_UNSPECIFIED,
        Level.LOW: types_pb2.LEVEL_LOW,
        Level.MODERATE: types_pb2.LEVEL_MODERATE,
        Level.HIGH: types_pb2.LEVEL_HIGH,
    }
)


def state_of(message: approval_pb2.ApprovalState.ValueType) -> ApprovalState:
    """Return the state of a validated message."""
    return _STATES_BACK[message]


def approval(shown: ShownApproval) -> approval_pb2.Approval:
    """Return an approval as its reader sees it."""
    return approval_pb2.Approval(
        approval_id=shown.id,
        state=_STATES[shown.state],
        agent=shown.agent,
        tenant=shown.tenant,
        task_id=shown.task,
        requested_at=timestamp(shown.requested_at),
        pending_until=timestamp(shown.pending_until),
        decided_at=None if shown.decided_at is None else timestamp(shown.decided_at),
        usable_until=None if shown.usable_until is None else timestamp(shown.usable_until),
        intent_digest=shown.intent_digest,
        requirements=[_requirement(each) for each in shown.requirements],
        bypass_until=None if shown.bypass_until is None else timestamp(shown.bypass_until),
        reason=shown.text,
        details=None if shown.details is None else _details(shown.details),
    )


def _requirement(progress: Progress) -> approval_pb2.ApprovalRequirement:
    required = progress.required
    return approval_pb2.ApprovalRequirement(
        kind=_KINDS[required.kind],
        group=required.group,
        escalated_to=progress.escalated_to,
        quorum=required.quorum,
        approvals=progress.approvals,
        owners_excluded=required.owners_excluded,
        max_age=_duration(required.max_age),
        good_for=_duration(required.good_for),
        bypass=_duration(required.bypass),
        pending_for=_duration(required.pending_for),
    )


def _details(details: Details) -> approval_pb2.ApprovalDetails:
    history = details.history
    return approval_pb2.ApprovalDetails(
        digest=details.digest,
        nonce=details.nonce,
        intent=_intent(details.intent),
        authorization_details=canonical_json(authorization_details(details.scope)).decode(),
        lifetime=_duration(details.lifetime),
        policy_ids=details.policy_ids,
        agent=approval_pb2.ApprovalAgent(
            business_owner=details.business_owner,
            security_owner=details.security_owner,
            since=timestamp(history.since),
            granted=history.granted,
            refused=history.refused,
            approved=history.approved,
            denied=history.denied,
        ),
        task=None if details.task is None else _task(details.task),
        answers=[_answer(each) for each in details.answers],
    )


def _intent(asked: Intent) -> types_pb2.Intent:
    resource = asked.resource
    which = types_pb2.Resource(type=resource.type, id=resource.id) if resource.id else None
    return types_pb2.Intent(
        action=asked.action,
        resource=which or types_pb2.Resource(type=resource.type, set=resource.set),
        parameters=canonical_json(asked.parameters).decode(),
        purpose=asked.purpose,
        audience=asked.audience,
        task_id=asked.task,
        on_behalf_of=asked.on_behalf_of,
        sensitivity=_LEVELS[asked.sensitivity],
        risk=_LEVELS[asked.risk],
    )


def _task(task: Task) -> approval_pb2.ApprovalTask:
    return approval_pb2.ApprovalTask(
        purpose=task.purpose,
        type=task.type,
        person=task.person,
        begun_at=timestamp(task.begun_at),
        deadline=timestamp(task.deadline),
    )


def _answer(yes: Yes) -> approval_pb2.ApprovalAnswer:
    return approval_pb2.ApprovalAnswer(
        person=yes.person, at=timestamp(yes.at), by_token=yes.by_token, bypass=_duration(yes.bypass)
    )


def _duration(length: timedelta | None) -> Duration | None:
    if length is None:
        return None
    message = Duration()
    message.FromTimedelta(length)
    return message


def drifted_task(shown: ShownDrifted) -> approval_pb2.DriftedTask:
    """Return a drifted task as its reader sees it."""
    drifted, task = shown.drifted, shown.task
    return approval_pb2.DriftedTask(
        task_id=task.id,
        state=_DRIFT_STATES[drifted.state],
        agent=task.agent,
        tenant=task.tenant,
        business_owner=shown.business_owner,
        security_owner=shown.security_owner,
        task=_task(task),
        suspended=task.suspended_at is not None,
        since=timestamp(drifted.since),
        drifted_at=timestamp(drifted.at),
        times=drifted.times,
        refusals=drifted.refusals,
        within=_duration(drifted.within),
        reasons=drifted.reasons,
        actions=drifted.actions,
        group=drifted.group,
        escalated_to=drifted.escalated,
    )


def approval_page(found: ApprovalPage) -> approval_pb2.WatchApprovalsResponse:
    """Return a page of approvals as a message of their stream."""
    return approval_pb2.WatchApprovalsResponse(
        approvals=[approval(each) for each in found.approvals],
        drifted_tasks=[drifted_task(each) for each in found.drifted],
        cursor=found.page.cursor,
        heartbeat=heartbeat(found.page),
    )
