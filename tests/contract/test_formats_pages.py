"""docs/formats/ names every type of event with its members, and every claim, and no other."""

import dataclasses
import re
from pathlib import Path
from typing import get_args

import pytest

from broker.audit.entry import PERSONAL
from broker.audit.event import Event
from broker.credential.claims import OPTIONAL, REQUIRED

FORMATS = Path(__file__).resolve().parents[2] / "docs" / "formats"
ROW = re.compile(r"^\| `([a-z]+\.[a-z_]+)` \| (.*?) \| (.*?) \|$", re.MULTILINE)
ROWS = {name: members for name, _, members in ROW.findall((FORMATS / "event.md").read_text())}
TYPES = get_args(Event)
NAMED_ON_THE_PAGE = {"caller": "*caller*", "decided": "`decision`"}


def members(kind: type) -> set[str]:
    """The members of a type, as the page writes them."""
    names = {field.name for field in dataclasses.fields(kind)} - {"at"}
    return {NAMED_ON_THE_PAGE.get(name, f"`{name}`") for name in names}


def test_every_type_has_its_row_and_no_other() -> None:
    assert sorted(ROWS) == sorted(kind.TYPE for kind in TYPES)


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.TYPE)
def test_a_row_names_the_members_of_its_type(kind: type) -> None:
    plain, _, personal = ROWS[kind.TYPE].partition("personal: ")  # type: ignore[attr-defined]
    assert set(re.findall(r"\*caller\*|`\w+`", plain + personal)) == members(kind)
    assert set(re.findall(r"`(\w+)`", personal)) == {name.strip("`") for name in members(kind)} & PERSONAL


def test_every_claim_has_its_row_and_no_other() -> None:
    section = (FORMATS / "credential.md").read_text().partition("## Claims\n")[2].partition("\n### ")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == sorted(REQUIRED | OPTIONAL)
    assert "All are required but `task`." in section
    assert {"task"} == OPTIONAL
