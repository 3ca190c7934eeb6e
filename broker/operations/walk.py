"""Walk: a group goes through one step after another; what refuses one of it harms no neighbour."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from broker.errors import Reason, Refusal
from broker.store.interface import StoreUnavailable


class Walking(Protocol):
    """One call on its way; refused, it takes no further step."""

    refusal: Refusal | None


Work = TypeVar("Work", bound=Walking)


def walk(
    group: Sequence[Work], steps: Sequence[Callable[[Work], None]], *, report: Callable[[Exception], None]
) -> None:
    """Take all of a group through each step before the next.

    Args:
        group: whose refusals are filled in.
        steps: each raises Refusal for the one call that it is given.
        report: told of a defect, for the log; a defect is its call's own, and refuses it as INTERNAL.

    Raises:
        StoreUnavailable: of a step; nothing of the group may be acknowledged.

    """
    for step in steps:
        for work in group:
            if work.refusal is not None:
                continue
            try:
                step(work)
            except Refusal as refusal:
                work.refusal = refusal
            except StoreUnavailable:
                raise
            except Exception as defect:  # noqa: BLE001  # whatever it is, the neighbours are served
                report(defect)
                work.refusal = Refusal(Reason.INTERNAL)
