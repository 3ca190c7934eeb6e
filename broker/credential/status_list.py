"""Status list: the revoked indexes of one audience as a broker sends them, a portable roaring bitmap.

A few bytes of it stand for a long run of indexes, so what it holds is counted before anybody lists or keeps it.
"""

from typing import Final

from pyroaring import BitMap

# More than a broker has alive for one service: 4,660 credentials a second for an hour, and every one of them revoked.
MAX_REVOKED: Final = 1 << 24


def read_status_list(sent: bytes, most: int = MAX_REVOKED) -> BitMap:
    """Return the indexes.

    Args:
        sent: as it came.
        most: how many the reader can do with.

    Raises:
        ValueError: it is no such bitmap, or holds more.

    """
    try:
        found = BitMap.deserialize(sent)
    except LookupError as problem:
        raise ValueError("it is cut off") from problem
    require_few(found, most)
    return found


def require_few(found: BitMap, most: int = MAX_REVOKED) -> None:
    """Refuse indexes that are more than so many.

    Raises:
        ValueError: they are.

    """
    if len(found) > most:
        raise ValueError(f"it holds {len(found):,} indexes; at most {most:,} are read")
