"""Refusal: a "no" with its reason, as it is raised. Everybody takes it from `errors`, with the reasons."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.errors import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Where to wait for people: the approval's id, who has to answer ("user", "group:desk"), and until when."""

    approval: str
    waits_for: tuple[str, ...]
    until: datetime


class Refusal(Exception):
    """A "no" with its reason. Raised by nouns and operations; a door turns it into a status.

    Args:
        reason: the stable reason.
        detail: a short addition for the log and the developer (a field's name, a rule); never a secret or a value.
        policy_ids: ids of the policies that decided, when policy did.
        decision_id: id of the decision, when one was made.
        sentence: a sentence for the end user that a policy provides (@reason); defaults to the reason's own.
        held: where to wait, of STEP_UP_REQUIRED.

    """

    def __init__(
        self,
        reason: "Reason",
        detail: str = "",
        *,
        policy_ids: tuple[str, ...] = (),
        decision_id: str = "",
        sentence: str = "",
        held: Held | None = None,
    ) -> None:
        super().__init__(f"{reason.name}: {detail or reason.meaning.next_step}")
        self.reason = reason
        self.detail = detail
        self.policy_ids = policy_ids
        self.decision_id = decision_id
        self.sentence = sentence or reason.meaning.sentence
        self.held = held
