"""What the README says at its top is so."""

import re
import tomllib
from pathlib import Path

from deploy.spire.build import VERSION

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_facts_under_the_title_are_true() -> None:
    title, _, facts = (ROOT / "README.md").read_text().splitlines()[:3]
    assert title == f"# {PROJECT['name']}"
    licence, python, spire, transport, maturity = re.findall(r"`([^`]+)`", facts)
    assert licence == PROJECT["license"]
    assert python.replace("Python ≥ ", ">=") == PROJECT["requires-python"]
    assert spire == f"SPIRE {VERSION}"
    assert transport == "gRPC over TLS 1.3"
    assert any(c.startswith("Development Status") and c.lower().endswith(maturity) for c in PROJECT["classifiers"])


def test_it_stays_one_screen_before_the_recording() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.partition("## A recording")[0].splitlines()) <= 65
    assert not re.search(r"!\[[^\]]*\]\(https?:", text), "no picture from elsewhere"
