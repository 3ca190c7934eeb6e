"""The example bundle with limits, separate duties and sequences in it, for an issuer in a folder."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from broker.audit.event import Caller, Entry, TaskEnded, seal
from broker.credential.token import Credential
from broker.intent import Json
from broker.store.interface import Committed, Effects, GiveBack, Item
from tests.operations.world import SUPPORT, World
from tests.polling import eventually
from tests.unit.policy.bundles import added, compiled, without_cases
from tests.unit.policy.test_limit import PLAIN, limited

DUTIES = """
[[separate_duties]]
name = "refund-or-cancel"
actions = ["order.refund", "order.cancel"]
"""
SEQUENCE = """
[[sequence]]
name = "look-up-then-refund"
actions = ["order.read", "customer.read", "order.refund"]
within = "{within}"
then = "refuse"
"""


def bundle(*limits: dict[str, Json], entries: str = "") -> dict[str, bytes]:
    """Return the example with limits on refunds, with entries, and without drift: refusals do not add up."""
    files = without_cases(added("entities.toml", entries, limited(*limits) if limits else PLAIN))
    entities = [line for line in files["entities.toml"].splitlines(keepends=True) if not line.startswith(b"drift = ")]
    return {**files, "entities.toml": b"".join(entities)}


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a bundle where an issuer of this folder reads it."""
    (folder / "policy").mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / "policy" / name).write_bytes(content)


async def change(world: World, files: Mapping[str, bytes]) -> None:
    """Give the issuer another bundle, and wait until it decides by it."""
    # In the thread that reads it, which so never reads half of it.
    await world.stored(lambda _: write(world.folder, files))
    await decides(world)


async def decides(world: World) -> None:
    """Wait until the issuer decides by the bundle that it finds."""
    found = (path for path in (world.folder / "policy").iterdir() if path.is_file())
    wanted = compiled({path.name: path.read_bytes() for path in found}).digest

    async def taken() -> bool:
        return (await world.issuer.state()).policy_digest == wanted

    await eventually(taken)


def refund(task: str, amount: int = 10, **more: Any) -> dict[str, Any]:
    """Return what asks for a refund."""
    return {"action": "order.refund", "task": task, "parameters": {"amount": amount, "currency": "EUR"}, **more}


def move(world: World, to: datetime) -> None:
    """Set the issuer's clock, and give everybody an SVID that is good at that time."""
    world.time.ahead = to - datetime.now(UTC)
    home, partner = world.domains["example.org"], world.domains["partner.example"]
    home.now = to.replace(microsecond=0)
    home.add_authority()
    world.trusted = home.bundles(partner, epoch=world.trusted.epoch + 1)
    world.renew(SUPPORT)


def midnight(world: World) -> datetime:
    """Return when the issuer's next day begins."""
    return world.time().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


async def give_back(world: World, *credentials: Credential) -> list[int]:
    """Give back as an outcome does; return how many credentials each ended."""
    now = world.time()

    def entry(effects: Effects) -> Entry:
        indexes = {each.audience: ((each.status_index, each.status_index),) for each in effects}
        event = TaskEnded(
            at=now,
            caller=Caller(),
            decided=None,
            tenant="retail",
            task="",
            agent=SUPPORT,
            cause="ended",
            revoked=len(effects),
            status_indexes=indexes,
        )
        return seal(event, lambda: b"\x07" * 32)

    items = [
        Item(writes=(GiveBack(credential=each.grant.credential_id, at=now),), accepted=entry) for each in credentials
    ]
    answers = await world.stored(lambda store: store.commit(items))
    return [len(answer.revoked) for answer in answers if isinstance(answer, Committed)]
