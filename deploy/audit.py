"""What can be checked of the code and of what it stands on without running it: `make audit`.

bandit over broker/ (every finding is either mended or written down with its reason, in audit.toml), the pinned packages
against the list of known advisories there, and whether the bill of materials is that of the pins.

The list of advisories is kept by hand and has a date: the package index that CI reaches has no such data. Where yours
has, `pip-audit --require-hashes --disable-pip -r requirements.txt` asks it.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from packaging.version import Version

from deploy import sbom

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "deploy" / "audit.toml"
_GENERATED = "broker/v1,broker/issuer/v1,broker/admin/v1"


def main() -> int:
    """Say everything that is found; the exit code says whether that is nothing."""
    known = tomllib.loads(LIST.read_text())
    found = [*unaccepted(known["accepted"], bandit()), *vulnerable(known["advisory"], pins()), *stale()]
    for problem in found:
        print(f"audit: {problem}", file=sys.stderr)
    if not found:
        print(f"audit: nothing found; {len(known['accepted'])} findings accepted, advisories as of {known['as_of']}")
    return bool(found)


def bandit() -> Counter[tuple[str, str]]:
    """Run bandit; return how often it found which rule in which file."""
    command = [sys.executable, "-m", "bandit", "-q", "-r", "broker", "-x", _GENERATED, "-f", "json"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    answer: dict[str, Any] = json.loads(ran.stdout)
    if answer["errors"]:
        raise SystemExit(f"bandit could not read {answer['errors']}")
    return Counter((each["test_id"], each["filename"]) for each in answer["results"])


def unaccepted(accepted: list[dict[str, Any]], found: Counter[tuple[str, str]]) -> Iterator[str]:
    """Yield what nobody has given a reason for, and reasons for what is no longer there."""
    left = Counter(found)
    for entry in accepted:
        matching = [key for key in left if key[0] == entry["rule"] and fnmatch(key[1], entry["files"])]
        count = sum(left.pop(key) for key in matching)
        if not count:
            yield f"audit.toml accepts {entry['rule']} in {entry['files']}, which is not found there any more"
        elif count > entry.get("at_most", count):
            yield f"{entry['rule']} stands {count} times in {entry['files']}, {entry['at_most']} are accepted"
    yield from (f"{rule} in {file}, {count} times: mend it, or give a reason" for (rule, file), count in left.items())


def pins() -> dict[str, str]:
    """Return the pinned version of every package."""
    text = (ROOT / "requirements.txt").read_text()
    return {
        name.lower(): version for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE)
    }


def vulnerable(advisories: list[dict[str, str]], pinned: dict[str, str]) -> Iterator[str]:
    """Yield every pinned package that is older than what mends a known advisory."""
    for advisory in advisories:
        version = pinned.get(advisory["package"])
        if version is not None and Version(version) < Version(advisory["mended_in"]):
            yield f"{advisory['package']} {version} is affected by {advisory['id']}; {advisory['mended_in']} mends it"


def stale() -> Iterator[str]:
    """Yield that the bill of materials is not that of the pins."""
    if sbom.text() != sbom.FILE.read_text():
        yield "sbom.cdx.json is not that of requirements.txt: python -m deploy.sbom"


if __name__ == "__main__":
    sys.exit(main())
