"""Trace: one story out of the log: prompt, task, approval, decision, credential, each use, what came of it.

Two passes over the events: the first finds what an id belongs to (`Finder`), the second gathers all that belongs to
that (`Gatherer`). Events are put together by the members that they share, whatever their type, so that a type of a
later release takes its place too. Nothing here says more than the log does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from broker.audit.shown import Shown
from broker.audit.story import CredentialStory, Story, TaskStory, UseStory

_BY_PREFIX: Final = {"cred_": "credential", "task_": "task", "txn_": "transaction", "appr_": "approval"}
_GRANTED: Final = "credential.granted"
_BEGUN: Final = "task.begun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a story is about.

    Attributes:
        tasks: shown with everything in them.
        credentials: each by itself.
        transactions: of exchanges that gave no credential.
        around: the tasks of the last two, of which the beginning is shown, and what concerns those.

    """

    tasks: frozenset[str] = frozenset()
    credentials: frozenset[str] = frozenset()
    transactions: frozenset[str] = frozenset()
    around: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.tasks or self.credentials or self.transactions)


def needs_personal(name: str) -> bool:
    """Whether a name can be found only by who may see personal values: a conversation, or a reference."""
    return not any(name.startswith(prefix) for prefix in _BY_PREFIX) and not _is_use(name)


def _is_use(name: str) -> bool:
    return [len(part) for part in name.split("-")] == [8, 4, 4, 4, 12]


class Finder:
    """Finds what an id, a conversation's name or a reference belongs to.

    Conversations and references are named by agents and services, as they like. One that is named as an id of the
    broker's is not looked for: nobody writes itself into the story of another's credential.

    Args:
        name: the id of a credential, task, transaction, approval or use; else a conversation, or somebody's reference.

    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._member = next((member for prefix, member in _BY_PREFIX.items() if name.startswith(prefix)), "")
        self._tasks: set[str] = set()
        self._around: set[str] = set()
        self._credentials: set[str] = set()
        self._transactions: set[str] = set()

    def see(self, event: Shown) -> None:
        """Look at the next event."""
        members = event.members
        task = str(members.get("task", ""))
        if task and (self._name == task or (not self._member and self._name == event.opened.get("conversation"))):
            self._tasks.add(task)
        elif self._name and self._name in self._names(event):
            self._around.add(task)
            if "credential" in members:
                self._credentials.add(members["credential"])
            elif "transaction" in members:
                self._transactions.add(members["transaction"])

    def _names(self, event: Shown) -> Iterator[str]:
        members, opened = event.members, event.opened
        if self._member:
            yield members.get(self._member, "")
            yield members.get("bypass", "") if self._member == "approval" else ""
            return
        yield members.get("use", "")
        yield opened.get("reference", "")
        trail = opened.get("trail", {})
        yield from (trail.get(f"{what}_reference", "") for what in ("prompt", "tool_call"))

    def wanted(self) -> Wanted:
        """Return what was found."""
        return Wanted(
            tasks=frozenset(self._tasks),
            credentials=frozenset(self._credentials),
            transactions=frozenset(self._transactions),
            around=frozenset(self._around),
        )


class Gatherer:
    """Gathers all that belongs to what is wanted, in the order of the log.

    Args:
        wanted: by a Finder that has seen the log, up to here or further.

    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._tasks: dict[str, TaskStory] = {}
        self._by_place: dict[tuple[str, int], CredentialStory] = {}
        self._by_id: dict[str, CredentialStory] = {}
        self._asked: dict[str, list[Shown]] = {}

    def see(self, event: Shown) -> None:
        """Take the next event in, if it belongs to the story."""
        members = event.members
        task, credential = str(members.get("task", "")), str(members.get("credential", ""))
        concerns = self._is_wanted(task) or task in self._wanted.around
        if event.type == _BEGUN and concerns:
            self._task(task).begun = event
        elif event.type == _GRANTED:
            self._grant(event)
        elif "approval" in members and concerns:
            self._asked.setdefault(members["approval"], []).append(event)
        elif credential in self._by_id:
            _add(self._by_id[credential], event)
        elif self._belongs(event, task):
            self._of_task(event)
        elif members.get("rule") == "task" and members.get("name") in self._tasks:
            self._task(members["name"]).others.append(event)
        self._end(event)

    def story(self) -> Story:
        """Return it."""
        used = {name for each in self._by_id.values() if (name := _approval(each.granted))}
        for identity, events in self._asked.items():
            task = str(events[0].members.get("task", ""))
            transactions = {event.members.get("transaction") for event in events}
            if identity not in used and (self._is_wanted(task) or transactions & self._wanted.transactions):
                self._task(task).approvals[identity] = events
        return Story(tasks=tuple(task for task in self._tasks.values() if task.id or task.credentials or task.refused))

    def _belongs(self, event: Shown, task: str) -> bool:
        if self._is_wanted(task) or event.members.get("transaction") in self._wanted.transactions:
            return True
        return bool(task) and task in self._wanted.around and event.type.startswith("task.")

    def _is_wanted(self, task: str) -> bool:
        return bool(task) and task in self._wanted.tasks

    def _task(self, task: str) -> TaskStory:
        if task not in self._tasks:
            self._tasks[task] = TaskStory(id=task)
        return self._tasks[task]

    def _grant(self, event: Shown) -> None:
        members = event.members
        task, credential = members.get("task", ""), str(members["credential"])
        if not self._is_wanted(task) and credential not in self._wanted.credentials:
            return
        found = CredentialStory(granted=event, approval=self._asked.get(_approval(event), []))
        self._task(task).credentials[credential] = self._by_id[credential] = found
        self._by_place[members["audience"], members["status_index"]] = found

    def _of_task(self, event: Shown) -> None:
        task = self._task(str(event.members.get("task", "")))
        if event.type == "exchange.refused":
            task.refused.append(event)
        else:
            task.others.append(event)

    def _end(self, event: Shown) -> None:
        """Whatever names the place of a credential in its service's list has ended it."""
        for audience, ranges in event.members.get("status_indexes", {}).items():
            for first, last in ranges:
                for place, found in self._by_place.items():
                    if place[0] == audience and first <= place[1] <= last and found.ended is None:
                        found.ended = event


def _approval(granted: Shown) -> str:
    """Return the approval that a credential was given on, or that let it pass without asking; empty without one."""
    return str(granted.members.get("approval") or granted.members.get("bypass", ""))


def _add(found: CredentialStory, event: Shown) -> None:
    """Put an event about a credential where it belongs."""
    kind, use = event.type, str(event.members.get("use", ""))
    match kind:
        case "usage.accepted":
            found.uses[use] = UseStory(accepted=event)
        case "usage.refused":
            found.refused.append(event)
        case "credential.redeemed":
            found.redeemed.append(event)
        case "outcome.reported" if use in found.uses:
            found.uses[use].outcomes.append(event)
        case _:
            found.others.append(event)
