"""Within which task: an intent of a task lies within what the bundle and the task itself allow it, or is refused."""

from collections.abc import Iterator
from dataclasses import replace

from broker.errors import Reason, Refusal
from broker.intent import Intent
from broker.policy.compiled import CompiledPolicy
from broker.policy.decision import ActionClass, Question
from broker.policy.entities import Service
from broker.policy.resource_types import ResourceType
from broker.policy.task_types import TaskType, task_type_of


def check_within(
    policy: CompiledPolicy, question: Question, service: Service, resource_type: ResourceType, tenant: str
) -> None:
    """Hold an intent to its task's type, as the bundle has it now, and to its task's own boundary.

    Raises:
        Refusal: TASK_BOUNDARY_EXCEEDED, with the member that lies outside; TASK_TYPE_REFUSED, TASK_TYPE_REQUIRED.

    """
    intent = question.intent
    if not intent.task:
        return
    kind = task_type_of(
        policy.register, question.task_type, agent=question.principal, purpose=intent.purpose, tenant=tenant
    )
    outside = question.boundary.outside(intent) or (kind and _outside(kind, intent, service, resource_type))
    if outside:
        raise Refusal(Reason.TASK_BOUNDARY_EXCEEDED, outside)


def _outside(kind: TaskType, intent: Intent, service: Service, resource_type: ResourceType) -> str:
    if kind.data_domains and resource_type.data_domain not in kind.data_domains:
        return "data domain"
    if kind.environments and service.environment not in kind.environments:
        return "environment"
    return kind.boundary.outside(intent)


def variants(policy: CompiledPolicy, question: Question) -> Iterator[Question]:
    """Yield a question in every kind of task that the bundle lets it be asked in, whatever its parameters and purpose.

    A read may be asked outside of any task as well.
    """
    intent, register = question.intent, policy.register
    service = register.services[intent.audience]
    resource_type = service.resource_types[intent.resource.type]
    for kind in register.task_types.values():
        open_type = replace(kind, boundary=replace(kind.boundary, limits={}))
        theirs = question.principal in kind.agents and question.tenant in kind.tenants
        if theirs and not _outside(open_type, intent, service, resource_type):
            yield replace(question, task_type=kind.name)
    if policy.actions[intent.action].action_class is ActionClass.READ:
        yield replace(question, intent=replace(intent, task=""))
