"""Tensors that a checkpoint has in several pieces, such as one for each process that saved it."""

from __future__ import annotations

import re
from bisect import bisect_left
from itertools import groupby
from typing import TYPE_CHECKING

from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import Digest

    Read = Callable[[str, Parameter], bytearray | memoryview]
    """Returns the bytes of a piece, given its name and what it holds."""


PIECE = r"\[[0-9:,]+\]"
"""Regular expression for what the name of a piece has after the name of its tensor."""

_SUFFIX = re.compile(rf"{PIECE}\Z")


def tensor_of(name: str) -> str:
    """Return the name of the tensor that a parameter is a piece of; the parameter's own name if it is none."""
    return _SUFFIX.sub("", name) if name.endswith("]") else name


@dataclass(frozen=True, slots=True)
class TensorPiece:
    """A rectangular part of a tensor.

    Attributes:
        name: Its name in the model, as in ``layer.weight[0:512]``.
        start: Where it begins in each dimension.
        shape: Its size in each dimension.
    """

    name: str
    start: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PiecedTensor:
    """Which pieces a tensor has.

    Attributes:
        shape: Its shape.
        pieces: Its pieces, sorted by their places.
    """

    shape: tuple[int, ...]
    pieces: tuple[TensorPiece, ...]


@dataclass(frozen=True)
class JoinedTensor:
    """A tensor whose values are in several pieces.

    Attributes:
        spec: Its element type and shape.
        pieces: Its pieces and what they hold, sorted by their places; without empty ones.
        empty: Names of pieces without elements, which processes save that have nothing of a small tensor.
    """

    spec: TensorSpec
    pieces: tuple[tuple[TensorPiece, Parameter], ...]
    empty: tuple[str, ...] = ()

    @classmethod
    def of(cls, tensor: PiecedTensor, parameters: Mapping[str, Parameter]) -> JoinedTensor | None:
        """Return the tensor that pieces make up; None if they do not make up one.

        Args:
            tensor: Which pieces it has.
            parameters: What they hold, by name.
        """
        pieces = [piece for piece in tensor.pieces if all(piece.shape)]
        empty = tuple(piece.name for piece in tensor.pieces if not all(piece.shape))
        held = [(piece, parameters[piece.name]) for piece in pieces if piece.name in parameters]
        if not held or len(held) < len(pieces):
            return None
        dtype = held[0][1].spec.dtype
        # A tensor that was saved as a view has its storage as it is, in another order.
        if dtype.bits % 8 or any(v.spec.dtype != dtype or v.spec.shape != piece.shape for piece, v in held):
            return None
        if not _tile(tensor.shape, pieces):
            return None
        return cls(TensorSpec(dtype, tensor.shape), tuple(held), empty)

    @property
    def names(self) -> set[str]:
        """The names of the pieces."""
        return {piece.name for piece, _ in self.pieces} | {*self.empty}

    @property
    def digests(self) -> set[Digest]:
        """The digests of the pieces."""
        return {parameter.digest for _, parameter in self.pieces}

    def value(self, read: Read) -> bytearray:
        """Return the bytes of the tensor in row-major order."""
        return self.part((0,) * len(self.spec.shape), self.spec.shape, read)

    def chunks(self, read: Read, numbers: Iterable[int] | None = None) -> Iterator[tuple[int, memoryview]]:
        """Yield number and bytes of chunks of the tensor, in order; pieces of the same rows are in memory together.

        Args:
            read: Returns the bytes of a piece.
            numbers: Which chunks of ``spec.chunk_bytes``; None for all.
        """
        size = self.spec.chunk_bytes
        wanted = range(-(-self.spec.nbytes // size)) if numbers is None else sorted(numbers)
        data, end = bytearray(), 0  # the last bytes up to ``end``
        for (first, rows), _ in groupby(self.pieces, lambda piece: (piece[0].start[0], piece[0].shape[0])):
            shape = (rows, *self.spec.shape[1:])
            start, end = end, end + TensorSpec(self.spec.dtype, shape).nbytes
            next_one = bisect_left(wanted, start // size)
            if next_one == len(wanted) or wanted[next_one] * size >= end:
                data = bytearray()
                continue
            data += self.part((first, *(0 for _ in shape[1:])), shape, read)
            begin = end - len(data)
            for number in wanted[bisect_left(wanted, -(-begin // size)) :]:
                stop = min((number + 1) * size, self.spec.nbytes)
                if stop > end:
                    break
                yield number, memoryview(data)[number * size - begin : stop - begin]
            data = data[max(0, end - end % size - begin) :]

    def part(self, start: Sequence[int], shape: Sequence[int], read: Read) -> bytearray:
        """Return the bytes of a rectangular part of the tensor, in row-major order.

        Args:
            start: Where it begins in each dimension.
            shape: Its size in each dimension.
            read: Returns the bytes of a piece.
        """
        import numpy as np

        element = f"V{self.spec.dtype.bits // 8}"
        data = bytearray(TensorSpec(self.spec.dtype, tuple(shape)).nbytes)
        if not data:
            return data
        target = np.frombuffer(data, element).reshape(shape)
        for piece, parameter in self.pieces:
            common = _common(piece, start, shape)
            if common is not None:
                source = np.frombuffer(read(piece.name, parameter), element).reshape(piece.shape)
                target[_slices(common, start)] = source[_slices(common, piece.start)]
        return data


def _tile(shape: Sequence[int], pieces: Sequence[TensorPiece], dimension: int = 0) -> bool:
    """Return whether pieces fill a tensor: bands of its rows, each of which bands of its columns fill, and so on."""
    if dimension == len(shape):
        return len(pieces) == 1
    end = 0
    for (start, size), band in groupby(
        sorted(pieces, key=lambda piece: (piece.start[dimension], piece.shape[dimension])),
        lambda piece: (piece.start[dimension], piece.shape[dimension]),
    ):
        if start != end or not _tile(shape, list(band), dimension + 1):
            return False
        end += size
    return end == shape[dimension]


def _common(piece: TensorPiece, start: Sequence[int], shape: Sequence[int]) -> list[tuple[int, int]] | None:
    """Return where a piece and a part of a tensor overlap, as begin and end in each dimension."""
    common = [
        (max(one, other), min(one + size, other + extent))
        for one, size, other, extent in zip(piece.start, piece.shape, start, shape, strict=True)
    ]
    return None if any(begin >= end for begin, end in common) else common


def _slices(common: Sequence[tuple[int, int]], start: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(begin - first, end - first) for (begin, end), first in zip(common, start, strict=True))
