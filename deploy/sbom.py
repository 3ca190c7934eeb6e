"""The bill of materials, CycloneDX 1.6, from the pinned requirements: `python -m deploy.sbom` writes sbom.cdx.json.

It says what the broker is built with and tested against; the hashes of every file stand in requirements.txt, whose own
digest the bill names. What an install takes, within the ranges of pyproject.toml, is the installer's choice; whoever
wants exactly this installs requirements.txt with its hashes. What only development needs is marked as excluded.
"""

import hashlib
import json
import re
import tomllib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "deploy" / "sbom.cdx.json"
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?: ; (?P<marker>[^\\]+?))? *\\?$", re.MULTILINE)
_VIA = re.compile(r"^    # (?:via|  ) ?(?P<who>[^\n]+)$", re.MULTILINE)
_PROJECT = "spiffe-credential-broker (pyproject.toml)"


def text() -> str:
    """Return the bill as it stands in the file; the same pins give the same bytes."""
    requirements = (ROOT / "requirements.txt").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    digest = hashlib.sha256(requirements.encode())
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=digest.digest()[:16], version=4)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": project["name"],
                "name": project["name"],
                "version": project["version"],
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
            },
            "properties": [{"name": "requirements.txt:sha256", "value": digest.hexdigest()}],
        },
        "components": _components(requirements),
    }
    return json.dumps(bill, indent=1) + "\n"


def _components(requirements: str) -> list[dict[str, Any]]:
    found = list(_PIN.finditer(requirements))
    ends = [match.start() for match in found[1:]] + [len(requirements)]
    below = [requirements[match.end() : end] for match, end in zip(found, ends, strict=True)]
    asked = {
        match["name"]: [via["who"].strip() for via in _VIA.finditer(each)]
        for match, each in zip(found, below, strict=True)
    }
    shipped = _shipped(asked)
    return [_component(match, shipped=match["name"] in shipped) for match in found]


def _asking(below: str) -> list[str]:
    """Return who asks for a package, from the notes below its pin."""
    return [via["who"].strip() for via in _VIA.finditer(below)]


def _shipped(asked: Mapping[str, list[str]]) -> set[str]:
    """Return what an install can bring: what the project asks for, and what that asks for."""
    shipped = {name for name, who in asked.items() if _PROJECT in who}
    while more := {name for name, who in asked.items() if shipped.intersection(who)} - shipped:
        shipped |= more
    return shipped


def _component(match: re.Match[str], *, shipped: bool) -> dict[str, Any]:
    name, version = match["name"], match["version"]
    purl = f"pkg:pypi/{name}@{version}"
    component: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    component["scope"] = "required" if shipped else "excluded"
    if match["marker"]:
        component["properties"] = [{"name": "marker", "value": match["marker"].strip()}]
    return component


if __name__ == "__main__":
    FILE.write_text(text())
