"""What long runs have counted, added up over sittings: a file beside the harness, and a table on a page.

A run says its command, seed, commit, processor and kernel, so that anybody can run it again.
"""

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]


def commit() -> str:
    """Return the commit that is tried, marked when the tree differs from it."""
    told = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or "unknown"


def machine() -> str:
    """Return processor, cores and kernel."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    return (
        f"{model}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release()}, Python {platform.python_version()}"
    )


def read(path: Path) -> dict[str, Any]:
    """Return what a file has counted; nothing yet when there is none."""
    held: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"totals": {}, "sittings": []}
    return held


def add(
    path: Path,
    counts: Mapping[str, Mapping[str, float]],
    *,
    command: str,
    seed: int,
    tried: str,
    peaks: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Add one sitting's counts, by name, to the file; return the whole of it.

    Args:
        path: the file.
        counts: what was counted.
        command: by which it is counted again.
        seed: of its choices.
        tried: the commit, asked for before anything was written.
        peaks: what is not added up: the largest so far is kept.

    """
    held = read(path)
    for name, counted in counts.items():
        total = held["totals"].setdefault(name, {})
        for what, number in counted.items():
            total[what] = total.get(what, 0) + number
    for name, reached in peaks.items():
        total = held["totals"].setdefault(name, {})
        for what, number in reached.items():
            total[what] = max(total.get(what, 0), number)
    held["sittings"].append(
        {
            "at": datetime.now(UTC).strftime("%Y-%m-%d"),
            "command": command,
            "seed": seed,
            "commit": tried,
            "machine": machine(),
        }
    )
    path.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")
    return held


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def put(page: Path, name: str, text: str) -> None:
    """Replace what stands on a page between <!-- name --> and <!-- /name -->."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    whole = page.read_text()
    assert begin in whole, f"{page.name} has no place for {name}"
    page.write_text(re.sub(f"{begin}.*?{end}", lambda _: f"{begin}{text}{end}", whole, flags=re.DOTALL))
