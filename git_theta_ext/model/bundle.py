"""Bundles: small tensors of one element type that are stored as one, since coding each takes longer than its bytes."""

from __future__ import annotations

import struct
from itertools import chain, groupby
from typing import TYPE_CHECKING, cast

from blake3 import blake3

from git_theta_ext.errors import FormatError
from git_theta_ext.model.tensor import MAX_DIMENSIONS, Digest, TensorSpec, digest_of
from git_theta_ext.records import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MOST_MEMBERS = 1 << 16
"""The limit of the tensors in a bundle."""

_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Bundle:
    """Tensors of one element type, one after another. They are one chunk.

    Attributes:
        spec: The element type, and the elements of all tensors as one dimension.
        runs: How many tensors that follow each other have a shape, and the shape.
        raw: The digests of all tensors, as bytes.
        digest: Names the bundle: the hash of element type, shapes and digests.

    Raises:
        FormatError: The tensors are empty, or more than fit into a chunk.
    """

    spec: TensorSpec = field(init=False)
    dtype: str
    runs: tuple[tuple[int, tuple[int, ...]], ...]
    raw: bytes
    digest: Digest = field(init=False)

    def __post_init__(self) -> None:
        specs = [(count, TensorSpec.of(self.dtype, shape)) for count, shape in self.runs]
        members = sum(count for count, _ in specs)
        if not 0 < members <= MOST_MEMBERS or len(self.raw) != members * _DIGEST_BYTES:
            raise FormatError("a bundle has another number of tensors than of digests")
        if any(count < 1 or not spec.elements for count, spec in specs):
            raise FormatError("a bundle has an empty tensor")
        if any(one == other for (_, one), (_, other) in zip(self.runs, self.runs[1:], strict=False)):
            raise FormatError("a bundle lists a shape twice in a row")
        spec = TensorSpec.of(self.dtype, [sum(count * spec.elements for count, spec in specs)])
        if spec.nbytes > spec.chunk_bytes or spec.nbytes != sum(count * one.nbytes for count, one in specs):
            raise FormatError("the tensors of a bundle do not fill one chunk at most")
        shapes, digests = self.row()
        hashed = blake3(f"git-theta bundle 1\n{self.dtype} {len(shapes)}\n".encode() + shapes + digests)
        object.__setattr__(self, "spec", spec)
        object.__setattr__(self, "digest", digest_of(hashed.digest()))

    @classmethod
    def of(cls, members: Sequence[tuple[TensorSpec, Digest]]) -> Bundle:
        """Return the bundle of some tensors of one element type, given by spec and digest."""
        runs = [(len(list(run)), shape) for shape, run in groupby(spec.shape for spec, _ in members)]
        raw = bytes.fromhex("".join(digest for _, digest in members))
        return cls(members[0][0].dtype.name, tuple(runs), raw)

    def row(self) -> tuple[bytes, bytes]:
        """Return the shapes, as 32-bit numbers, and the digests, as the header of a pack has them."""
        numbers = [number for count, shape in self.runs for number in (count, len(shape), *shape)]
        return struct.pack(f"<{len(numbers)}I", *numbers), self.raw

    @classmethod
    def from_row(cls, dtype: str, row: Sequence[object]) -> Bundle:
        """Return the bundle that a header has.

        Raises:
            TypeError: A field has the wrong type.
            ValueError: The shapes are truncated.
            FormatError: The bundle is not valid.
        """
        shapes, raw = row
        if not isinstance(shapes, bytes) or not isinstance(raw, bytes):
            raise TypeError("a bundle has fields of the wrong types")
        if len(shapes) % 4:
            raise ValueError("the shapes of a bundle are truncated")
        numbers = struct.unpack(f"<{len(shapes) // 4}I", shapes)
        runs: list[tuple[int, tuple[int, ...]]] = []
        at = 0
        while at < len(numbers):
            end = at + 2 + (numbers[at + 1] if at + 1 < len(numbers) else 0)
            if end > len(numbers):
                raise ValueError("the shapes of a bundle are truncated")
            # Memory for what is not a bundle is bounded, too.
            if end > at + 2 + MAX_DIMENSIONS or len(runs) == len(raw) // _DIGEST_BYTES:
                raise ValueError("a bundle has more dimensions or shapes than it can have")
            runs.append((numbers[at], numbers[at + 2 : end]))
            at = end
        return cls(dtype, tuple(runs), raw)

    def __len__(self) -> int:
        return len(self.raw) // _DIGEST_BYTES

    def digests(self) -> list[Digest]:
        """Return the digest of each tensor."""
        return cast("list[Digest]", self.raw.hex(" ", _DIGEST_BYTES).split(" "))

    def alike(self, digests: Iterable[Digest]) -> Bundle:
        """Return the bundle of as many other tensors of the same specs."""
        return Bundle(self.dtype, self.runs, bytes.fromhex("".join(digests)))

    def specs(self) -> Iterator[TensorSpec]:
        """Yield the spec of each tensor."""
        return chain.from_iterable([TensorSpec.of(self.dtype, shape)] * count for count, shape in self.runs)

    def members(self) -> Iterator[tuple[int, TensorSpec, Digest]]:
        """Yield each tensor: the position of its first byte in the bundle, its spec, and its digest."""
        yield from zip(self.starts(), self.specs(), self.digests(), strict=True)

    def starts(self) -> list[int]:
        """Return the position of the first byte of each tensor."""
        starts: list[int] = []
        end = 0
        for count, shape in self.runs:
            begin, nbytes = end, TensorSpec.of(self.dtype, shape).nbytes
            end += count * nbytes
            starts += range(begin, end, nbytes)
        return starts

    def first_other(self, raw: bytes) -> Digest | None:
        """Return the digest of the first tensor that has another one in a list of as many; None if there is none."""
        if raw == self.raw:
            return None
        others = raw.hex(" ", _DIGEST_BYTES).split(" ")
        return next(digest for digest, other in zip(self.digests(), others, strict=True) if digest != other)
