"""The audit says what is there, and is not satisfied with a reason for what is not; the bill is that of the pins."""

import json
import tomllib
from collections import Counter
from typing import Any

from deploy import audit, sbom

ACCEPTED: list[dict[str, Any]] = [{"rule": "B1", "files": "broker/a/*.py", "at_most": 2, "why": "so"}]


def test_a_finding_without_a_reason_is_told() -> None:
    found = Counter({("B1", "broker/a/x.py"): 1, ("B2", "broker/a/x.py"): 1, ("B1", "broker/b.py"): 1})
    told = list(audit.unaccepted(ACCEPTED, found))
    assert len(told) == 2
    assert all("mend it" in line for line in told)


def test_one_more_than_accepted_is_told() -> None:
    found = Counter({("B1", "broker/a/x.py"): 2, ("B1", "broker/a/y.py"): 1})
    (told,) = audit.unaccepted(ACCEPTED, found)
    assert told.startswith("B1 stands 3 times")


def test_a_reason_for_what_is_gone_is_told() -> None:
    (told,) = audit.unaccepted(ACCEPTED, Counter())
    assert "not found there any more" in told


def test_every_reason_is_written_down() -> None:
    known = tomllib.loads(audit.LIST.read_text())
    assert all(len(entry["why"]) > 20 for entry in known["accepted"])


def test_an_affected_version_is_told_and_no_pin_is_one() -> None:
    advisories = tomllib.loads(audit.LIST.read_text())["advisory"]
    assert list(audit.vulnerable(advisories, {"protobuf": "6.31.0"}))
    assert list(audit.vulnerable(advisories, audit.pins())) == []
    named = {entry["package"] for entry in advisories}
    assert named <= audit.pins().keys(), "an advisory about what is not pinned here says nothing"


def test_the_bill_is_that_of_the_pins() -> None:
    assert list(audit.stale()) == []
    bill = json.loads(sbom.FILE.read_text())
    components = {each["name"]: each for each in bill["components"]}
    assert {name: each["version"] for name, each in components.items()} == audit.pins()
    assert components["cryptography"]["scope"] == components["cedarpy"]["scope"] == "required"
    assert components["pytest"]["scope"] == components["bandit"]["scope"] == "excluded"
