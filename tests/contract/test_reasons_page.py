"""docs/reasons.md says what the code says."""

from pathlib import Path

from broker.errors import Reason
from broker.server.reasons import page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reasons.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run: python -m broker.server.reasons > docs/reasons.md"


def test_every_reason_is_on_it_once() -> None:
    text = page()
    assert all(text.count(f"| `{reason.name}` |") == 1 for reason in Reason)
