"""The quick start for platform teams, word for word, on a SPIRE that the reader runs already."""

import pytest

from tests.packaging.built import ROOT
from tests.quickstarts.page import Reader, follow

pytestmark = [pytest.mark.spire, pytest.mark.timeout(300)]
PAGE = ROOT / "docs" / "quickstart-platform.md"


async def test_from_an_own_spire_to_a_verified_log(reader: Reader) -> None:
    *_, found, first, refused, ended = await follow(reader, PAGE)
    assert " ok\n" in found
    assert "order-readers-may-look-up-orders" in first
    assert "PURPOSE_REFUSED" in refused
    assert "AGENT_REVOKED" in ended
    assert "intact" in ended
