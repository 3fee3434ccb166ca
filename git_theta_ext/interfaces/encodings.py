"""Store a tensor in few bytes: the interface of encodings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import TensorSpec

RESERVED_NAMES = frozenset({"part", "gathered"})
"""Names that no encoding can have. In the headers of packs they mean that an entry has no bytes of its own."""


class TensorSource(Protocol):
    """A tensor that is read in parts. Each read decodes again.

    Attributes:
        spec: The element type and shape.
    """

    spec: TensorSpec

    def read(self, start: int = 0, end: int | None = None) -> memoryview:
        """Return the bytes from ``start`` up to ``end`` or the end of the tensor; fewer if the tensor is shorter."""
        ...


@dataclass(frozen=True, slots=True)
class Base:
    """A tensor that a chunk is encoded against.

    Attributes:
        spec: The spec of the whole tensor.
        data: For a ``range`` base the bytes at the offset of the chunk, fewer or none if the base is shorter; for a
            ``whole`` base all bytes.
    """

    spec: TensorSpec
    data: memoryview


@dataclass(frozen=True, slots=True)
class Chunk:
    """The position of a chunk in its tensor, and what it is encoded against.

    Attributes:
        spec: The spec of the whole tensor.
        offset: The offset of the chunk in the tensor, in bytes.
        bases: One for each item of ``Encoding.needs``.
        params: From ``Fit``, or read from the header of a pack and not to be trusted.
    """

    spec: TensorSpec
    offset: int = 0
    bases: tuple[Base, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fit:
    """What an encoding determines from a whole tensor before it encodes chunks.

    Attributes:
        params: Stored in the header of the pack: few and small values of the types of MessagePack.
        tensors: Spec and little-endian bytes of the bases after the parent, which are stored as tensors of their own.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    tensors: tuple[tuple[TensorSpec, Buffer], ...] = ()


class Encoding(Protocol):
    """Encodes the chunks of a tensor losslessly.

    Attributes:
        name: The name in pack headers.
        needs: For each base whether a chunk is encoded against the same ``range`` of it or against the ``whole`` base.
            The first base is the parent: an earlier version of the tensor, of the same element type.
    """

    name: str
    needs: tuple[Literal["range", "whole"], ...]

    def fit(self, target: TensorSource, parent: TensorSource) -> Fit | None:
        """Determine whether and how to encode a tensor against a parent; fast if it does not pay.

        It is called for encodings that need a parent. The parent may have fewer or more rows.

        Returns:
            What ``encode`` needs, or None if another encoding suits the tensor better.
        """
        ...

    def encode(self, chunk: Chunk, data: memoryview) -> list[Buffer]:
        """Encode one chunk into the pieces of a payload.

        Pieces avoid copies: a piece may be ``data`` itself, but not memory that a later call overwrites.

        Args:
            chunk: The position, bases and parameters of the chunk.
            data: The little-endian bytes of the chunk.
        """
        ...

    def decode(self, chunk: Chunk, payload: memoryview, out: memoryview) -> None:
        """Decode one chunk into ``out``, which has exactly its size.

        Arithmetic is elementwise and in a fixed order, so that every machine computes the same bits.

        Raises:
            CorruptError: The payload cannot be the encoding of a chunk of that size, or the parameters are invalid.
        """
        ...


class Predictor(Encoding, Protocol):
    """An encoding that predicts a tensor from its bases and stores what the prediction misses."""

    def predict(self, chunk: Chunk, out: memoryview) -> None:
        """Write the prediction of one chunk to ``out``: the result of an update of the parent, rounded.

        Raises:
            CorruptError: The parameters or the bases are invalid.
        """
        ...


class Sampled(Encoding, Protocol):
    """An encoding whose ``fit`` takes long, and that tells from a sample of the values which parent suits it best."""

    def expected_bytes(self, target: TensorSource, parent: TensorSource) -> int | None:
        """Estimate the size of what ``fit`` determines, without that of the chunks; much faster than ``fit``.

        Returns:
            The number of bytes, or None if ``fit`` would most likely return None.
        """
        ...
