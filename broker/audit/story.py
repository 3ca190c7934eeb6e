"""Story: what the log says of tasks and their credentials, put together by `trace`."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.audit.shown import Shown


@dataclass(slots=True, kw_only=True)
class UseStory:
    """One use of a credential: the service said that it accepted it, and what came of it."""

    accepted: Shown
    outcomes: list[Shown] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class CredentialStory:
    """A credential: its grant, what was done with it, and what ended it before its time."""

    granted: Shown
    approval: list[Shown] = field(default_factory=list)
    redeemed: list[Shown] = field(default_factory=list)
    uses: dict[str, UseStory] = field(default_factory=dict)
    refused: list[Shown] = field(default_factory=list)
    others: list[Shown] = field(default_factory=list)
    ended: Shown | None = None


@dataclass(slots=True, kw_only=True)
class TaskStory:
    """A task, or what belongs to none (`id` is empty)."""

    id: str
    begun: Shown | None = None
    credentials: dict[str, CredentialStory] = field(default_factory=dict)
    refused: list[Shown] = field(default_factory=list)
    approvals: dict[str, list[Shown]] = field(default_factory=dict)
    others: list[Shown] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happened, task by task."""

    tasks: tuple[TaskStory, ...]

    def credentials(self) -> Iterator[CredentialStory]:
        """Yield every credential of it."""
        for task in self.tasks:
            yield from task.credentials.values()

    def systems(self) -> Mapping[str, bool]:
        """Return the services that credentials were for, and whether each said that it accepted one."""
        found: dict[str, bool] = {}
        for each in self.credentials():
            audience = str(each.granted.members["audience"])
            found[audience] = found.get(audience, False) or bool(each.uses or each.redeemed)
        return found

    def commands(self, now: str) -> list[tuple[str, str]]:
        """Return what would take the accesses away that are still there, the narrowest first: what, and how.

        They are to be pasted into a shell, so whatever stands in the log is one word in them.

        Args:
            now: as events have times; what has expired by then needs no command.

        """
        live = [each.granted.members for each in self.credentials() if _lives(each, now)]
        found = [("this credential", f"broker revoke credential {_word(each['credential'])}") for each in live]
        going = [task for task in self.tasks if task.begun and not any(e.type == "task.ended" for e in task.others)]
        found += [("everything of this task", f"broker revoke task {_word(task.id)}") for task in going]
        agents = sorted({str(each.granted.members.get("spiffe_id", "")) for each in self.credentials()} - {""})
        agents += [agent for task in self.tasks if task.begun for agent in [_agent(task.begun)] if agent not in agents]
        for agent in agents:
            found.append(("everything that this agent has, and will ask for", f"broker revoke agent {_word(agent)}"))
            found.append(
                ("the same, until a second person lets it go on", f"broker stop agent {_word(agent)} --reason ...")
            )
        return found


def _word(text: object) -> str:
    return shlex.quote(str(text))


def _agent(begun: Shown) -> str:
    return str(begun.members.get("agent") or begun.members.get("spiffe_id", ""))


def _lives(each: CredentialStory, now: str) -> bool:
    return each.ended is None and str(each.granted.members["expires_at"]) > now


def to_json(story: Story, now: str) -> dict[str, Any]:
    """Return a story as one JSON object: the events as they stand in the log, with what the reader may see opened."""
    return {
        "tasks": [
            {
                "task": task.id,
                "begun": _event(task.begun) if task.begun else None,
                "credentials": [_credential(each) for each in task.credentials.values()],
                "refused": list(map(_event, task.refused)),
                "approvals": [list(map(_event, events)) for events in task.approvals.values()],
                "others": list(map(_event, task.others)),
            }
            for task in story.tasks
        ],
        "systems": [{"service": name, "touched": touched} for name, touched in story.systems().items()],
        "commands": [command for _, command in story.commands(now)],
    }


def _event(event: Shown) -> dict[str, Any]:
    return {"position": event.position, **event.members} | ({"personal": dict(event.opened)} if event.opened else {})


def _credential(each: CredentialStory) -> dict[str, Any]:
    return {
        "granted": _event(each.granted),
        "approval": list(map(_event, each.approval)),
        "redeemed": list(map(_event, each.redeemed)),
        "uses": [
            {"accepted": _event(use.accepted), "outcomes": list(map(_event, use.outcomes))}
            for use in each.uses.values()
        ],
        "refused": list(map(_event, each.refused)),
        "others": list(map(_event, each.others)),
        "ended": _event(each.ended) if each.ended else None,
    }
