"""Sittings of bundle swaps under load, half of them bad, while keys change: each decision names one good bundle."""

import time
from pathlib import Path

from tests.faults.bundle import bundle
from tests.faults.facts import Facts
from tests.faults.kills import Sitting, Under, sitting
from tests.polling import eventually
from tests.unit.policy.bundles import compiled

FILE = "writes.cedar"
# Each makes a bundle that must never decide anything.
BAD = (b"permit (principal, action, resource);\n", b"this is no policy\n", b"\xff\xfe", b'@id("a") @id("b") forbid')
LOOK_EVERY = 5
# The first key of each use, and three that followed.
MANY = 4
KEYS = 'rotate_every = "PT5S"\nrotate_checkpoints_every = "PT9S"\npublish_ahead = "PT3S"'


async def swaps(folder: Path, count: int, seed: int) -> Sitting:
    """Give the broker another bundle again and again, a good and a bad one in turn."""
    async with sitting(folder, seed, keys=KEYS) as under:
        files = bundle()
        good = {compiled(files).digest}
        for number in range(count):
            bad = number % 2 == 1
            ending = BAD[number // 2 % len(BAD)] if bad else f"// {number}\n".encode()
            changed = {**files, FILE: files[FILE] + b"\n" + ending}
            if not bad:
                good.add(compiled(changed).digest)
            await _swap(under, folder / "policy" / FILE, changed[FILE], bad=bad)
            if number % LOOK_EVERY == 0 or number == count - 1:
                await under.judge()
                under.found.lost += misnamed(under.broker.facts(), good)
            if under.found.lost:
                return under.found
        await eventually(lambda: _keys_changed(under), within=120)
        return under.found


async def _keys_changed(under: Under) -> bool:
    """Tell whether keys have changed often enough; a quick machine is through with the swaps before."""
    under.working()
    signing = [event["use"] for event in under.broker.facts().of("key.changed") if event["state"] == "current"]
    return min(signing.count("token"), signing.count("checkpoint")) >= MANY


async def _swap(under: Under, path: Path, content: bytes, *, bad: bool) -> None:
    """Put a file in its place whole, and wait until the broker has looked at it."""
    under.working()
    draft = path.with_name(".draft")
    draft.write_bytes(content)
    kind = "policy.rejected" if bad else "policy.activated"
    before = len(under.broker.facts().of(kind))
    draft.rename(path)

    async def taken() -> bool:
        under.working()
        return len(under.broker.facts().of(kind)) > before

    under.hit("a bad bundle" if bad else "a good bundle", time.monotonic())
    await eventually(taken, within=60)


def misnamed(facts: Facts, good: set[str]) -> list[str]:
    """Return what was activated, and the decisions, that are of no bundle that was good, or of none."""
    found: list[str] = []
    for position, event in enumerate(facts.events):
        if event["type"] == "policy.activated" and event["bundle"] not in good:
            found.append(f"{position}: {event['bundle']} was activated, which is no good bundle")
        if "decision" in event and event["decision"]["bundle"] not in good:
            found.append(f"{position}: decided by {event['decision']['bundle']}, which is no good bundle")
    return found
