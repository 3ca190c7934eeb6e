"""How a story is drawn for people: a tree a task, the systems that it touched, what would take its accesses away."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from broker.audit.shown import Shown
from broker.audit.story import CredentialStory, Story, TaskStory, UseStory
from broker.visible import rows, visible

_HIDDEN = "(personal: shown with --personal)"
# When something happened, by the clock of the service that reports it.
_SERVICES = "used_at"
_MINUTE = 16  # characters of a time
_OUTCOMES = {
    "done": ("done", "green"),
    "failed": ("nothing happened", "yellow"),
    "rolled_back": ("rolled back", "yellow"),
    "unknown": ("not known", "red"),
}


def draw(story: Story, now: str) -> Iterator[RenderableType]:
    """Yield what is printed of a story, in its order.

    Args:
        story: put together.
        now: as events have times.

    """
    for task in story.tasks:
        yield _task(task)
    systems = story.systems()
    if systems:
        yield _heading("systems")
        yield _lines(
            (name, "touched" if used else "a credential was given; no use is known") for name, used in systems.items()
        )
    yield _heading("what would take it away")
    yield _lines((command, what) for what, command in story.commands(now))


def _heading(text: str) -> Text:
    return Text(f"\n{text}", "bold")


def _lines(pairs: Any) -> Table:  # noqa: ANN401 - pairs of text
    table = Table.grid(padding=(0, 2))
    for one, other in pairs:
        table.add_row(Text("  " + visible(one)), Text(visible(other), "dim"))
    return table


def _task(task: TaskStory) -> Tree:
    begun = task.begun
    tree = Tree(
        _line(begun, "task", task.id) if begun else Text(f"task {visible(task.id)}" if task.id else "without a task")
    )
    if begun:
        members = begun.members
        who = members.get("agent") or members.get("spiffe_id", "")
        _facts(
            tree,
            ("agent", who),
            ("begun by", members.get("spiffe_id") if members.get("spiffe_id") != who else ""),
            ("person", _personal(begun, "person")),
            ("asked", _personal(begun, "asked")),
            ("conversation", _personal(begun, "conversation")),
            ("purpose", members.get("purpose")),
            ("type", members.get("task_type")),
            ("tenant", members.get("tenant")),
        )
    for events in task.approvals.values():
        _approval(tree, events)
    for each in task.credentials.values():
        _credential(tree, each)
    for event in task.refused:
        _refusal(tree, event)
    for event in task.others:
        _other(tree, event)
    return tree


def _credential(tree: Tree, each: CredentialStory) -> None:
    granted, members = each.granted, each.granted.members
    branch = tree.add(_line(granted, "intent", _intent(members)))
    _prompt(branch, granted)
    _facts(
        branch,
        ("by agent", members.get("spiffe_id")),
        ("on behalf of", _personal(granted, "on_behalf_of")),
        ("parameters", _personal(granted, "parameters")),
    )
    if each.approval:
        _approval(branch, each.approval)
    decision = members["decision"]
    policies = ", ".join(decision["policies"])
    branch.add(Text.assemble(("permitted ", "green"), visible(policies), (f"  {visible(decision['id'])}", "dim")))
    until = f"until {visible(members['expires_at'][:19])}Z"
    given = branch.add(Text.assemble("credential ", (visible(members["credential"]), "bold"), f"  {until}"))
    _facts(given, ("for service", members["audience"]), ("transaction", members.get("transaction")))
    for event in each.redeemed:
        given.add(_line(event, "spent", "", who=True))
    for use in each.uses.values():
        _use(given, use)
    for event in each.refused:
        by = event.members.get("presented_by") or "nobody that could be verified"
        given.add(_line(event, "refused", f"{event.members['reason']}, shown by {by}", style="red", who=True))
    for event in each.others:
        _other(given, event)
    if each.ended:
        given.add(_line(each.ended, "ended", f"by {each.ended.type}", style="yellow", who=True))
    elif not each.uses and not each.redeemed:
        given.add(Text("no use is known", "dim"))


def _use(tree: Tree, use: UseStory) -> None:
    branch = tree.add(_line(use.accepted, "used", "the service accepted it", who=True))
    _facts(branch, ("call", _personal(use.accepted, "call_digest")), ("told the broker at", _told(use.accepted)))
    for event in use.outcomes:
        said, style = _OUTCOMES.get(event.members["outcome"], (event.members["outcome"], ""))
        line = branch.add(_line(event, "outcome", said, style=style))
        _facts(
            line,
            ("reference", _personal(event, "reference")),
            ("by", _personal(event, "rolled_back_by")),
            ("told the broker at", _told(event)),
        )
    if not use.outcomes:
        branch.add(Text("outcome  the service has said nothing", "red"))


def _approval(tree: Tree, events: Sequence[Shown]) -> None:
    branch = tree.add(Text(f"approval {visible(str(events[0].members['approval']))}"))
    for event in events:
        line = branch.add(_line(event, event.type.rpartition(".")[2], "", who=True))
        _prompt(line, event)
        _facts(line, ("person", _personal(event, "person")), ("why", _personal(event, "text")))


def _refusal(tree: Tree, event: Shown) -> None:
    members = event.members
    branch = tree.add(_line(event, "refused", f"{members['reason']}  {_intent(members)}", style="red"))
    _prompt(branch, event)
    policies = ", ".join(members.get("decision", {}).get("policies", ()))
    _facts(
        branch, ("by agent", members.get("spiffe_id")), ("policies", policies), ("detail", _personal(event, "detail"))
    )


def _other(tree: Tree, event: Shown) -> None:
    members = event.members
    ended = members.get("revoked", 0)
    said = [members.get("cause"), f"{ended} credential{'s' * (ended != 1)} with it" if ended else ""]
    line = tree.add(_line(event, event.type, ", ".join(word for word in said if word), who=True))
    _facts(line, ("why", _personal(event, "text")))


def _prompt(tree: Tree, event: Shown) -> None:
    """Add what led to an event, as far as the agent said so."""
    if "trail" not in event.members.get("commitments", {}):
        return
    trail = event.opened.get("trail")
    if trail is None:
        tree.add(Text(f"prompt  {_HIDDEN}", "dim"))
        return
    for what, name in (("prompt", "prompt"), ("tool call", "tool_call")):
        said = " ".join(visible(trail.get(f"{name}_{part}", "")) for part in ("reference", "digest")).strip()
        if said:
            tree.add(Text.assemble((f"{what}  ", "dim"), (said, "cyan")))


def _intent(members: Mapping[str, Any]) -> str:
    intent = members.get("intent", {})
    resource = intent.get("resource", {})
    return f"{intent.get('action', '-')} {resource.get('type', '')}/{resource.get('id') or resource.get('set')}"


def _personal(event: Shown, member: str) -> str:
    """Return a personal value as it may be shown; empty when there is none."""
    if member in event.opened:
        value = event.opened[member]
        return value if isinstance(value, str) else ", ".join(f"{path} = {shown}" for path, shown in rows(value))
    return _HIDDEN if member in event.members.get("commitments", {}) else ""


def _line(event: Shown, what: str, rest: str, *, style: str = "", who: bool = False) -> Text:
    by = f"  by {visible(str(event.members.get('spiffe_id') or 'the broker'))}" if who else ""
    return Text.assemble(
        (f"{visible(event.members.get(_SERVICES, event.members['at'])[11:19])}  ", "dim"),
        (f"{visible(what)}  ", style or "bold"),
        (visible(rest), style),
        by,
    )


def _told(event: Shown) -> str:
    """Return when the broker heard of it, if that was in another minute: reports wait on the service's side."""
    at = event.members["at"]
    return f"{at[:19]}Z" if at[:_MINUTE] != event.members[_SERVICES][:_MINUTE] else ""


def _facts(tree: Tree, *facts: tuple[str, object]) -> None:
    for name, value in facts:
        if value:
            text = str(value)
            tree.add(
                Text.assemble(
                    (f"{name}  ", "dim"),
                    (text if text == _HIDDEN else visible(text), "cyan" if text != _HIDDEN else "dim"),
                )
            )
