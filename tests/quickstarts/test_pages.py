"""The quick starts, word for word, one after the other, on a SPIRE that the reader runs already."""

import pytest

from tests.packaging.built import ROOT
from tests.quickstarts.page import Reader, follow

pytestmark = [pytest.mark.spire, pytest.mark.timeout(600)]
DOCS = ROOT / "docs"


async def test_from_an_own_spire_to_a_guarded_call(reader: Reader) -> None:
    *_, found, first, refused, ended = await follow(reader, DOCS / "quickstart-platform.md")
    assert " ok\n" in found
    assert "order-readers-may-look-up-orders" in first
    assert "PURPOSE_REFUSED" in refused
    assert "AGENT_REVOKED" in ended
    assert "intact" in ended
    *_, waiting, approved, given, again, story = await follow(reader, DOCS / "quickstart-approvals.md")
    assert "order.refund" in waiting
    assert "approved" in approved
    assert "assistant-may-refund-more-once-approved" in given
    assert "STEP_UP_REQUIRED" in again
    assert "denied" in again
    assert all(part in story for part in ("operator/duty", "order.refund", "One refund is enough."))
    await follow(reader, DOCS / "quickstart-service.md")
    assert (await follow(reader, DOCS / "quickstart-agent.md"))[-1].strip() == "coffee grinder"
