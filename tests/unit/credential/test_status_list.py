"""A status list as a broker sends it: read, or refused in one way."""

import pytest
from pyroaring import BitMap

from broker.credential.status_list import read_status_list

GOOD = BitMap([3, 70_000]).serialize()


def test_as_many_as_the_reader_can_do_with_are_read() -> None:
    assert list(read_status_list(GOOD, 2)) == [3, 70_000]
    with pytest.raises(ValueError, match="it holds 2 indexes; at most 1 are read"):
        read_status_list(GOOD, 1)


@pytest.mark.parametrize("sent", [b"", b"garbage", GOOD[:3], GOOD[:-1]], ids=["empty", "garbage", "head", "cut"])
def test_what_is_no_list_is_refused(sent: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the sentence is the library's
        read_status_list(sent)
