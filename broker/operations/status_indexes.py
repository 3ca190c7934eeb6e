"""Status indexes: dense, one list an audience, handed out from blocks that the store reserves.

Signing stays outside the transaction, so an index must be known before the commit; a block that is reserved and not
used up leaves a gap after a restart, never a collision.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from broker.store.interface import Store

BLOCK: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusIndexes:
    """Hands out the next free index of an audience."""

    store: Store
    _blocks: dict[str, Iterator[int]] = field(default_factory=dict)

    def take(self, audience: str) -> int:
        """Return an index that no other grant of this audience has or will have.

        Raises:
            StoreUnavailable: no block could be reserved.

        """
        index = next(self._blocks.get(audience, iter(())), None)
        if index is None:
            self._blocks[audience] = iter(self.store.reserve_indexes(audience, BLOCK))
            index = next(self._blocks[audience])
        return index
