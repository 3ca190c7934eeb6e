"""Calls and answers about approvals, of every shape that the port carries."""

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from broker.approval import ApprovalState, Yes
from broker.issuer.port import (
    ApprovalAnswered,
    ApprovalCall,
    ApprovalList,
    ApprovalPage,
    ApprovalPageCall,
    ApproveCall,
    Details,
    Drifted,
    DriftedList,
    DriftState,
    History,
    ListApprovalsCall,
    ListDriftedCall,
    Progress,
    ShownApproval,
    ShownDrifted,
    Task,
)
from broker.policy.step_up import StepUp, StepUpKind
from tests.issuer import nouns

states = st.sampled_from(ApprovalState)
seconds = st.integers(1, 86_400).map(lambda count: timedelta(seconds=count))
maybe_seconds = st.none() | seconds
required = st.builds(
    StepUp,
    kind=st.just(StepUpKind.GROUP),
    group=nouns.names,
    quorum=st.integers(1, 16),
    pending_for=seconds,
    good_for=seconds,
    owners_excluded=st.booleans(),
    bypass=maybe_seconds,
) | st.builds(StepUp, kind=st.just(StepUpKind.AUTHENTICATION), max_age=seconds, good_for=seconds)
small = st.integers(0, 2**31)
details = st.builds(
    Details,
    digest=nouns.text,
    nonce=nouns.text,
    intent=nouns.intents,
    scope=nouns.scopes,
    lifetime=seconds,
    policy_ids=st.lists(nouns.names, max_size=2).map(tuple),
    business_owner=nouns.text,
    security_owner=nouns.text,
    history=st.builds(History, since=nouns.times, granted=small, refused=small, approved=small, denied=small),
    task=st.none() | nouns.tasks,
    answers=st.lists(
        st.builds(Yes, person=nouns.text, at=nouns.times, by_token=st.booleans(), bypass=maybe_seconds), max_size=2
    ).map(tuple),
)
shown = st.builds(
    ShownApproval,
    id=nouns.ids,
    state=states,
    agent=nouns.spiffe_ids,
    tenant=nouns.names,
    task=st.just("") | nouns.task_ids,
    requested_at=nouns.times,
    pending_until=nouns.times,
    intent_digest=nouns.text,
    requirements=st.lists(
        st.builds(
            Progress, required=required, escalated_to=st.lists(nouns.names, max_size=2).map(tuple), approvals=small
        ),
        max_size=2,
    ).map(tuple),
    decided_at=nouns.maybe_times,
    usable_until=nouns.maybe_times,
    bypass_until=nouns.maybe_times,
    text=nouns.text,
    details=st.none() | details,
)


def _shown_drifted(task: Task, **members: Any) -> ShownDrifted:
    drifted = Drifted(task=task.id, agent=task.agent, tenant=task.tenant, **members)
    return ShownDrifted(drifted=drifted, task=task, business_owner="Head", security_owner="")


drifted_tasks = st.builds(
    _shown_drifted,
    task=nouns.tasks,
    group=nouns.names,
    since=nouns.times,
    at=nouns.times,
    refusals=small,
    within=seconds,
    reasons=st.lists(nouns.names, max_size=2).map(tuple),
    actions=st.lists(nouns.names, max_size=2).map(tuple),
    times=small,
    state=st.sampled_from(DriftState),
    escalated=st.lists(nouns.names, max_size=2).map(tuple),
    escalate_at=nouns.maybe_times,
)
several_drifted = st.lists(drifted_tasks, max_size=2).map(tuple)
several = st.lists(shown, max_size=2).map(tuple)
calls = st.builds(ApprovalCall, context=nouns.contexts, approval=nouns.ids, text=nouns.text)
answered = st.builds(ApprovalAnswered, shown=shown, position=st.none() | nouns.counts)

VERBS: list[tuple[str, st.SearchStrategy[Any], st.SearchStrategy[Any]]] = [
    (
        "list_approvals",
        st.builds(
            ListApprovalsCall,
            context=nouns.contexts,
            states=st.lists(states, max_size=3).map(tuple),
            page_size=st.integers(-(2**31), 2**31 - 1),
            page_token=nouns.text,
        ),
        st.builds(ApprovalList, approvals=several, next_page_token=nouns.text),
    ),
    (
        "list_drifted",
        st.builds(
            ListDriftedCall,
            context=nouns.contexts,
            page_size=st.integers(-(2**31), 2**31 - 1),
            page_token=nouns.text,
        ),
        st.builds(DriftedList, drifted=several_drifted, next_page_token=nouns.text),
    ),
    ("get_approval", calls, shown),
    (
        "approve",
        st.builds(ApproveCall, context=nouns.contexts, approval=nouns.ids, digest=nouns.text, bypass=nouns.lifetimes),
        answered,
    ),
    ("deny", calls, answered),
    ("withdraw_approval", calls, answered),
    (
        "approval_page",
        st.builds(ApprovalPageCall, context=nouns.contexts, cursor=nouns.text),
        st.builds(ApprovalPage, page=nouns.pages, approvals=several, drifted=several_drifted),
    ),
]
