"""docs/sdk.md lists every public name of the SDKs as the code has it: a change of one shows there."""

import importlib

import pytest

from deploy import sdk_reference
from tests.packaging.built import ROOT

PAGE = ROOT / "docs" / "sdk.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == sdk_reference.page(), "run: python deploy/sdk_reference.py > docs/sdk.md"


@pytest.mark.parametrize("name", sdk_reference.MODULES)
def test_every_public_name_is_on_it(name: str) -> None:
    section = sdk_reference.page().partition(f"## `{name}`\n")[2].partition("\n## ")[0]
    assert [public for public in importlib.import_module(name).__all__ if f"### `{public}`" not in section] == []


def test_a_changed_parameter_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sdk_reference.page()

    def connect(address: str, *, broker: str) -> None:
        """Connect."""

    monkeypatch.setattr("broker.client.connect", connect)
    assert sdk_reference.page() != before
    assert "- `connect(address: str, *, broker: str) -> None`" in sdk_reference.page()


def test_a_name_without_a_word_about_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect() -> None:
        pass

    monkeypatch.setattr("broker.client.connect", connect)
    with pytest.raises(SystemExit, match="has no docstring"):
        sdk_reference.page()
