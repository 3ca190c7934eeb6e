"""The story, from the beginning to the end."""

from collections.abc import Callable

import access
import aftermath
import conversation
import opening
from narrator import Mismatch, Narrator
from stage import Stage, opened

from deploy.progress import duration, say
from deploy.spire.errors import DeployError
from deploy.spire.interrupts import Interrupts


def tell(narrator: Narrator, stage: Stage) -> None:
    """Tell it, step by step.

    Raises:
        Mismatch: a step did not do what it says.
        DeployError: something is missing, or a process failed.

    """
    opening.spire_comes_up(narrator, stage)
    opening.broker_comes_up(narrator, stage)
    opening.agents_have_svids(narrator, stage)
    credential = access.permitted(narrator, stage)
    access.accepted(narrator, stage, credential)
    access.stolen(narrator, stage, credential)
    access.forbidden(narrator, stage)
    access.not_permitted(narrator, stage)
    access.revoked(narrator, stage, credential)
    task = conversation.looked_up(narrator, stage)
    paying = conversation.held(narrator, stage)
    conversation.steered(narrator, stage)
    looking = conversation.looked_into(narrator, stage, task)
    conversation.changed_subject(narrator, stage, task, looking)
    conversation.confirmed(narrator, stage)
    conversation.traced(narrator, stage, paying)
    aftermath.audited(narrator, stage)
    aftermath.before_and_after(narrator, stage)
    aftermath.stopped(narrator, stage)


def run(interrupts: Interrupts, seconds: Callable[[], float]) -> int:
    """Tell it, leave nothing behind, and return the exit status."""
    narrator = Narrator()
    narrator.title(
        "A credential for one action, for minutes, bound to one agent",
        "A support assistant looks up orders and pays money back. SPIRE, the broker, two agents, a chat, an orders "
        "service, a refunds lead and a security desk run on this machine.",
    )
    try:
        with opened(interrupts) as stage:
            try:
                tell(narrator, stage)
            except Mismatch as problem:
                say(f"\nThis is not so: {problem}.\nThe end of the broker's log:\n{stage.broker_log()}")
                return 1
    except DeployError as problem:
        say(f"\nerror: {problem}")
        return 1
    except OSError as problem:
        say(f"\nerror: {problem}. Is the disk full, or {problem.filename or 'a file'} not ours?")
        return 1
    narrator.end(f"All {narrator.step} steps did what they say. {duration(seconds())} in all.")
    return 0
