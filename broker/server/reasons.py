"""Reasons: the page of every refusal, made from the code: `python -m broker.server.reasons > docs/reasons.md`."""

import sys

from broker.errors import Category, Reason
from broker.server.status import DOMAIN, code_of

_HEAD = f"""\
# Reasons

Every refusal has a stable reason: its name never changes its meaning and is never used again for another. On the wire
it is the `reason` of `google.rpc.ErrorInfo`, with `domain` "{DOMAIN}"; the metadata may hold `detail`, `decision_id`,
`policy_ids` (joined by commas), `next_step` and `request` (the broker's id of the request, which its log names).
`LocalizedMessage` holds the sentence that may be shown to an end user; a policy's own `@reason` takes its place.
Neither ever contains a value from the request. Clients decide by the reason, not by the gRPC code.

Made from `broker/errors.py` by `python -m broker.server.reasons > docs/reasons.md`.
"""
_MEANING = {
    Category.UNAUTHENTICATED: "Who asks could not be established",
    Category.INVALID: "The request cannot be understood",
    Category.DENIED: "Understood, and not allowed",
    Category.UNMET: "Allowed only after something else happens",
    Category.UNKNOWN: "Names something that does not exist",
    Category.CONFLICT: "A name that is already used for another",
    Category.OUT_OF_RANGE: "A cursor that points nowhere",
    Category.EXHAUSTED: "Over a limit",
    Category.UNAVAILABLE: "The broker cannot, now; nothing was given",
    Category.TOKEN: "A validator does not accept this credential",
}


def page() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *(section for category in Category for section in _section(category))]) + "\n"


def _section(category: Category) -> list[str]:
    reasons = [reason for reason in Reason if reason.category is category]
    rows = [
        f"| `{reason.name}` | {code_of(reason).name} | {reason.meaning.sentence} | {reason.meaning.next_step} |"
        for reason in reasons
    ]
    head = ["| reason | gRPC code | for the end user | next step |", "|---|---|---|---|"]
    return [f"## {_MEANING[category]}", "", *head, *rows, ""]


if __name__ == "__main__":
    sys.stdout.write(page())
