"""Make Huffman codes of limited length, with ties broken as in the heap of zlib's ``trees.c``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONGEST = 15


class Codes(NamedTuple):
    """The lengths of the codes of an alphabet, the codes themselves, and the highest symbol that has one."""

    lengths: Sequence[int]
    codes: Sequence[int]
    highest: int


def canonical_codes(lengths: Sequence[int], highest: int) -> Codes:
    """Return canonical codes, with their bits in the order in which they are written."""
    counts = [0] * (_LONGEST + 1)
    for length in lengths[: highest + 1]:
        counts[length] += bool(length)
    following, code = [0] * (_LONGEST + 2), 0
    for length in range(1, _LONGEST + 1):
        following[length + 1] = code = (code + counts[length]) << 1
    codes = [0] * len(lengths)
    for symbol, length in enumerate(lengths[: highest + 1]):
        if length:
            codes[symbol] = int(f"{following[length]:0{length}b}"[::-1], 2)
            following[length] += 1
    return Codes(lengths, codes, highest)


class _Heap:
    """The heap in which zlib builds a Huffman tree: rarer nodes first, and of equal ones those of less depth."""

    def __init__(self, counts: list[int], symbols: list[int]) -> None:
        self.counts, self.depths = counts, [0] * len(counts)
        self._nodes = [0, *symbols]
        for at in range(len(symbols) // 2, 0, -1):
            self._sift(at)

    def __len__(self) -> int:
        return len(self._nodes) - 1

    @property
    def first(self) -> int:
        return self._nodes[1]

    def pop(self) -> int:
        first, last = self._nodes[1], self._nodes.pop()
        if len(self._nodes) > 1:
            self.replace(last)
        return first

    def replace(self, node: int) -> None:
        self._nodes[1] = node
        self._sift(1)

    def _sift(self, at: int) -> None:
        nodes, size = self._nodes, len(self._nodes) - 1
        node = nodes[at]
        key = self.counts[node], self.depths[node]
        child = 2 * at
        while child <= size:
            below = self.counts[nodes[child]], self.depths[nodes[child]]
            if child < size and (other := (self.counts[nodes[child + 1]], self.depths[nodes[child + 1]])) <= below:
                child, below = child + 1, other
            if key <= below:
                break
            nodes[at] = nodes[child]
            at, child = child, 2 * child
        nodes[at] = node


def build_codes(frequencies: Sequence[int], longest: int) -> Codes:
    """Return the codes for symbols that occur so often."""
    symbols = [symbol for symbol, count in enumerate(frequencies) if count]
    counts = [*frequencies, *([0] * (len(frequencies) + 1))]
    highest = symbols[-1] if symbols else -1
    while len(symbols) < 2:  # noqa: PLR2004 - some readers need two codes
        extra = highest + 1 if highest < 2 else 0  # noqa: PLR2004 - as above
        highest = max(highest, extra)
        symbols.append(extra)
        counts[extra] = 1
    heap = _Heap(counts, symbols)
    parents = [0] * len(counts)
    node = len(frequencies)
    order: list[int] = []
    while len(heap) > 1:
        one = heap.pop()
        two = heap.first
        order += (one, two)
        counts[node] = counts[one] + counts[two]
        heap.depths[node] = max(heap.depths[one], heap.depths[two]) + 1
        parents[one] = parents[two] = node
        heap.replace(node)
        node += 1
    lengths = _lengths(order[::-1], parents, heap.first, len(frequencies), longest)
    return canonical_codes(lengths, highest)


def _lengths(order: Sequence[int], parents: Sequence[int], root: int, symbols: int, longest: int) -> list[int]:
    """Return the lengths of codes, none above ``longest``, given the nodes of the tree below its root, from the top."""
    lengths = [0] * len(parents)
    counts = [0] * (longest + 1)
    overflow = 0
    lengths[root] = 0
    for node in order:
        length = lengths[parents[node]] + 1
        if length > longest:
            length, overflow = longest, overflow + 1
        lengths[node] = length
        counts[length] += node < symbols
    while overflow > 0:
        length = longest - 1
        while not counts[length]:
            length -= 1
        counts[length] -= 1
        counts[length + 1] += 2
        counts[longest] -= 1
        overflow -= 2
        if overflow <= 0:
            leaves = (node for node in reversed(order) if node < symbols)
            for length in range(longest, 0, -1):
                for _ in range(counts[length]):
                    lengths[next(leaves)] = length
    return lengths[:symbols]
