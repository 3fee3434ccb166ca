"""How a tensor is held in few bytes: the seam for encodings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import TensorSpec


class TensorSource(Protocol):
    """A tensor to read from, piece by piece; what is read is decoded again each time.

    Attributes:
        spec: Its element type and shape.
    """

    spec: TensorSpec

    def read(self, start: int = 0, end: int | None = None) -> memoryview:
        """Return the bytes from ``start`` up to ``end``, or up to its end; fewer where it is shorter."""
        ...


@dataclass(frozen=True, slots=True)
class Base:
    """A tensor that a chunk is coded against.

    Attributes:
        spec: Of the whole tensor.
        data: Of a ``range`` base the bytes at the chunk's place, fewer or none where it ends before; of a ``whole``
            base all bytes.
    """

    spec: TensorSpec
    data: memoryview


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where a chunk belongs, and what it is coded against.

    Attributes:
        spec: Of the whole tensor.
        offset: Of the chunk in the tensor, in bytes.
        bases: One for each of ``Encoding.needs``.
        params: From ``Fit``, or out of a pack's header: not to be trusted.
    """

    spec: TensorSpec
    offset: int = 0
    bases: tuple[Base, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fit:
    """What an encoding needs to know of a whole tensor before any chunk of it is coded.

    Attributes:
        params: Kept in the pack's header: few and small, of MessagePack's types.
        tensors: Spec and little-endian bytes of the bases behind the parent, which are stored as tensors of their own.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    tensors: tuple[tuple[TensorSpec, Buffer], ...] = ()


class Encoding(Protocol):
    """Holds one chunk of a tensor in fewer bytes, losslessly.

    Attributes:
        name: As in pack headers.
        needs: For each base whether a chunk is coded against the same ``range`` of it or against the ``whole``.
            The first one is the parent: an earlier version of the tensor, of the same element type.
    """

    name: str
    needs: tuple[Literal["range", "whole"], ...]

    def fit(self, target: TensorSource, parent: TensorSource) -> Fit | None:
        """Find out whether, and how, a tensor is best coded against a parent; cheap where it is not.

        Called for encodings that need a parent. The parent may have fewer or more rows.

        Returns:
            What ``encode`` has to know, or None where this encoding is of no use.
        """
        ...

    def encode(self, chunk: Chunk, data: memoryview) -> list[Buffer]:
        """Encode one chunk into pieces that make up the payload one after another.

        Pieces save copying: a piece may be ``data`` itself, but nothing that a later call overwrites.

        Args:
            chunk: Its place, bases and parameters.
            data: Its little-endian bytes.
        """
        ...

    def decode(self, chunk: Chunk, payload: memoryview, out: memoryview) -> None:
        """Decode one chunk into ``out``, which has exactly its size.

        Arithmetic is elementwise, in a fixed order: every machine gets the same bits.

        Raises:
            CorruptError: The payload cannot be the encoding of a chunk of that size, or the parameters make no sense.
        """
        ...


class Predictor(Encoding, Protocol):
    """An encoding that predicts a tensor from its bases and keeps what the prediction missed."""

    def predict(self, chunk: Chunk, out: memoryview) -> None:
        """Write the prediction of one chunk to ``out``: what an update applied to the parent gives, rounded.

        Raises:
            CorruptError: The parameters or the bases make no sense.
        """
        ...
