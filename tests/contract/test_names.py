"""Names that SPIFFE's own Broker API reserves are not used, and nothing here could be taken for it."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESERVED = ("spiffe.broker", "broker.spiffe.io", "SPIFFE_BROKER_SOCKET", "Broker Endpoint")
KINDS = {".py", ".proto", ".toml", ".conf", ".cedar"}


def sources() -> list[Path]:
    folders = ("broker", "proto", "deploy", "examples")
    return [path for name in folders for path in (ROOT / name).rglob("*") if path.suffix in KINDS]


@pytest.mark.parametrize("name", RESERVED)
def test_a_reserved_name_is_not_used(name: str) -> None:
    found = sources()
    assert len(found) > 100
    assert [path for path in found if name in path.read_text()] == []


def test_the_readme_says_the_difference() -> None:
    assert "not the SPIFFE *Broker API*" in (ROOT / "README.md").read_text()
