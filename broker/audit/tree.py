"""Tree: the Merkle tree over the log (RFC 6962 section 2.1), as far as appending needs it.

A `Frontier` is the tree without its inside: the roots of the complete subtrees that its size breaks down into. It
grows by one leaf in O(log n), gives the root in O(log n), and is O(log n) large.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

HASH_BYTES: Final = 32
MAX_SIZE: Final = 2**63 - 1
_SIZE_BYTES: Final = 8


def leaf_hash(content: bytes) -> bytes:
    """Return SHA-256(0x00 ‖ content), the hash of one entry (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x00" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 ‖ left ‖ right), the hash of an inner node (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """A tree of `size` leaves, by the roots of its complete subtrees.

    Attributes:
        size: number of leaves.
        nodes: one root for each bit that is set in `size`, the largest subtree first.

    """

    size: int = 0
    nodes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no tree looks like."""
        if not 0 <= self.size <= MAX_SIZE:
            raise ValueError("a tree's size lies within 0 and 2^63-1")
        if len(self.nodes) != self.size.bit_count() or any(len(node) != HASH_BYTES for node in self.nodes):
            raise ValueError("a frontier has one 32-byte hash for each bit set in its size")

    def append(self, leaf: bytes) -> "Frontier":
        """Return the tree with one more leaf; its last node is then the largest subtree that this leaf completes."""
        nodes, node, carry = list(self.nodes), leaf, self.size
        while carry & 1:
            node = node_hash(nodes.pop(), node)
            carry >>= 1
        return Frontier(size=self.size + 1, nodes=(*nodes, node))

    def extend(self, leaves: Iterable[bytes]) -> "Frontier":
        """Return the tree with these leaves appended in order."""
        grown = self
        for leaf in leaves:
            grown = grown.append(leaf)
        return grown

    def root(self) -> bytes:
        """Return the Merkle tree hash; that of no leaves is SHA-256 of nothing."""
        if not self.nodes:
            return hashlib.sha256().digest()
        root = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            root = node_hash(node, root)
        return root

    def to_bytes(self) -> bytes:
        """Return the size as 8 bytes, big-endian, and the nodes, largest subtree first."""
        return self.size.to_bytes(_SIZE_BYTES) + b"".join(self.nodes)

    @classmethod
    def from_bytes(cls, content: bytes) -> "Frontier":
        """Read what `to_bytes` gave.

        Raises:
            ValueError: the bytes are no frontier.

        """
        hashes = content[_SIZE_BYTES:]
        if len(content) < _SIZE_BYTES or len(hashes) % HASH_BYTES:
            raise ValueError("a frontier is 8 bytes and whole hashes")
        nodes = tuple(hashes[start : start + HASH_BYTES] for start in range(0, len(hashes), HASH_BYTES))
        return cls(size=int.from_bytes(content[:_SIZE_BYTES]), nodes=nodes)
