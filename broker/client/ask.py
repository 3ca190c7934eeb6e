"""Ask: what an agent is about to do at one service, before it is an intent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from broker.client.credential import Task
from broker.client.decode import plain_parameters
from broker.client.errors import refused
from broker.errors import Refusal
from broker.intent import Intent, Json, Level, Resource
from broker.trail import NO_TRAIL, Trail


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is about to be done, without the service: the channel, or the one who asks, knows that.

    Attributes:
        action: what is about to be done.
        resource: its type and id; a Resource for a declared set.
        purpose: why; registered for this agent.
        parameters: of the call; integers, text, booleans, lists and mappings of them. Money in minor units.
        task: what it belongs to; writes need one.
        on_behalf_of: for whom; a statement that nobody verifies.
        lifetime: as long as policy allows when None.
        sensitivity: raises the level that the broker knows.
        risk: the same.
        cache: the credential may serve the same intent again. For reads only: nothing in the broker's answer tells a
            read from a write, so the one who asks has to. One that is good once is not held whatever this says.
        wait: how long to wait for people, when they have to approve it first; None: not at all.
        trail: what led to it, for the audit log; no part of the intent. A credential that is held already was given
            for what led to it then.

    """

    action: str
    resource: tuple[str, str] | Resource
    purpose: str
    parameters: Mapping[str, Json] = field(default_factory=dict, repr=False)
    task: Task | str = ""
    on_behalf_of: str = field(default="", repr=False)
    lifetime: timedelta | None = None
    sensitivity: Level | None = None
    risk: Level | None = None
    cache: bool = False
    wait: timedelta | None = None
    trail: Trail = NO_TRAIL

    def intent(self, audience: str) -> Intent:
        """Return the intent of doing this at a service.

        Raises:
            RefusedError: it has no single meaning.

        """
        try:
            return Intent(
                action=self.action,
                resource=self.resource
                if isinstance(self.resource, Resource)
                else Resource(type=self.resource[0], id=self.resource[1]),
                parameters=plain_parameters(self.parameters),
                purpose=self.purpose,
                audience=audience,
                task=self.task.id if isinstance(self.task, Task) else self.task,
                on_behalf_of=self.on_behalf_of,
                sensitivity=self.sensitivity,
                risk=self.risk,
            )
        except Refusal as refusal:
            raise refused(refusal) from refusal
