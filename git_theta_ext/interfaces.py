"""The four seams at which the tool can be extended: formats, encodings, merge methods and remotes.

A plug-in is a module of ``plugins/`` (or of anybody's package) that an entry point of the matching group names.
``git_theta_ext.testing`` holds a conformance suite for each seam.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import torch
    from typing_extensions import Buffer

    from git_theta_ext.model.layout import Field, Layout
    from git_theta_ext.model.tensor import TensorSpec


class NotSplittable(Exception):  # noqa: N818 - an outcome, not an error
    """Raised by ``Format.parse``: the file is well formed, but its tensors cannot be found in place.

    The message says why, for a note to the user; the file is then stored by the ``opaque`` format.
    """


class Format(Protocol):
    """Finds the tensors in a checkpoint's bytes. Never re-serialises anything.

    Attributes:
        name: As in manifests and in ``theta-format=`` attributes.
        mergeable: Whether tensors of two versions may be mixed in one file.
    """

    name: str
    mergeable: bool

    def detect(self, data: memoryview) -> bool:
        """Tell from the content alone whether this looks like the format; cheap, and never raises."""
        ...

    def parse(self, data: memoryview) -> Sequence[Field]:
        """Find the tensors and what is derived from them, in any order.

        Pure: looks at nothing but ``data``, runs nothing that the file holds, and bounds every size first.

        Args:
            data: The whole file, one-dimensional, format ``B``.

        Raises:
            FormatError: The bytes break the format; the message names the parameter where there is one.
            NotSplittable: Well formed, but compressed or of a legacy kind.
        """
        ...

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> Layout | None:
        """Lay out other parameters in the manner of ``layout``, for merges in which both sides added some.

        Returns:
            A layout with exactly these parameters, or None where the format cannot do that.
        """
        ...


class Source(Protocol):
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

    def fit(self, target: Source, parent: Source) -> Fit | None:
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


@dataclass(frozen=True)
class MergeContract:
    """What a merge method needs, from which the engine derives passes, chunks and checks (see docs/merging.md).

    Attributes:
        needs_base: Whether the common ancestor's value is required.
        symmetric: Whether swapping the branches leaves the result as it is.
        granularity: The smallest piece that can be merged on its own.
        parameters: Names of the parameters it takes, with their defaults.
        reference: Where the method was published.
    """

    needs_base: bool
    symmetric: bool
    granularity: Literal["element", "row", "matrix", "pair"] = "element"
    parameters: Mapping[str, float] = field(default_factory=dict)
    reference: str = ""


class MergeMethod(Protocol):
    """A pure tensor function and its contract.

    Attributes:
        name: As in ``theta.merge.method``.
        contract: What the function needs.
    """

    name: str
    contract: MergeContract

    def __call__(
        self, base: torch.Tensor | None, branches: Sequence[torch.Tensor], params: Mapping[str, float]
    ) -> torch.Tensor:
        """Merge one piece.

        Args:
            base: The ancestor's value, or None where the contract needs none; of the branches' shape and type.
            branches: One or more values, all of one shape: float32, or float64 where an input has 64-bit floats.
                Complex numbers come as reals with one more dimension of two.
            params: A value for each of ``contract.parameters``.

        Returns:
            The merged value, of the branches' shape and type.
        """
        ...


class Remote(Protocol):
    """A flat store of immutable objects under keys like ``packs/ab/<sha256>`` and ``index/<sha256>``.

    Every method raises ``RemoteError`` where the remote cannot be reached or refuses, and ``UsageError`` for a key that
    is not a relative path of plain names. All are safe to call from several threads.
    """

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the key of every object whose key starts with ``prefix``, in any order; none is half written.

        Sizes are in pack headers: object stores tell them only at the price of a request an object.
        """
        ...

    def get(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of an object from ``start`` up to ``end``, fewer where it is shorter.

        Raises:
            MissingError: There is no such object.
        """
        ...

    def fetch(self, key: str, path: Path) -> None:
        """Bring a whole object to a local file, continuing what an earlier try left there.

        ``path`` may hold the first bytes of the object already. Afterwards it holds all of them.

        Raises:
            MissingError: There is no such object.
        """
        ...

    def put(self, key: str, path: Path) -> bool:
        """Upload a local file unless the key is taken; atomic: others see all of it or nothing.

        Returns:
            Whether it was written; False where an object of that key was there.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens where there is none."""
        ...


class OpenRemote(Protocol):
    """What the entry point of a remote plug-in names."""

    def __call__(self, url: str, options: Mapping[str, Any]) -> Remote:
        """Open the remote at a URL whose scheme is one of the plug-in's."""
        ...
