"""The tree against RFC 6962 section 2.1, word for word, and its published vectors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.tree import Frontier, leaf_hash
from tests.contract.store_builders import root_of

# The reference leaves and roots that implementations of RFC 6962 share.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def grown(contents: list[bytes]) -> Frontier:
    return Frontier().extend(leaf_hash(content) for content in contents)


@pytest.mark.parametrize(("size", "root"), ROOTS.items())
def test_published_roots(size: int, root: str) -> None:
    assert grown(LEAVES[:size]).root().hex() == root


@given(st.lists(st.binary(max_size=4), max_size=70))
def test_the_root_is_that_of_the_definition(contents: list[bytes]) -> None:
    assert grown(contents).root() == root_of(contents)


@given(st.lists(st.binary(max_size=4), max_size=40), st.lists(st.binary(max_size=4), max_size=40))
def test_a_frontier_survives_being_written_down(before: list[bytes], after: list[bytes]) -> None:
    restored = Frontier.from_bytes(grown(before).to_bytes())
    assert restored == grown(before)
    assert restored.extend(map(leaf_hash, after)).root() == root_of(before + after)


NO_FRONTIER = {
    "nothing": b"",
    "half-a-size": b"\x00" * 7,
    "a-hash-too-many": bytes(8) + bytes(32),
    "a-hash-too-few": (3).to_bytes(8) + bytes(32),
    "half-a-hash": (1).to_bytes(8) + bytes(31),
    "too-large": b"\xff" * 8 + bytes(32 * 64),
}


@pytest.mark.parametrize("content", NO_FRONTIER.values(), ids=NO_FRONTIER)
def test_what_is_no_frontier_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"frontier|size"):
        Frontier.from_bytes(content)
    assert Frontier.from_bytes(bytes(8)) == Frontier()
