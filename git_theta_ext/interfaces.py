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


class Encoding(Protocol):
    """Holds one chunk of a tensor in fewer bytes, losslessly.

    Attributes:
        name: As in pack headers.
        bases: Number of base tensors a chunk is coded against.
    """

    name: str
    bases: int

    def encode(self, spec: TensorSpec, data: memoryview, bases: Sequence[Buffer]) -> list[Buffer]:
        """Encode one chunk into pieces that make up the payload one after another.

        Pieces save copying: a piece may be ``data`` itself, but nothing that a later call overwrites.

        Args:
            spec: Of the whole tensor.
            data: Little-endian bytes of the chunk.
            bases: The same range of each base tensor.
        """
        ...

    def decode(self, spec: TensorSpec, payload: memoryview, out: memoryview, bases: Sequence[Buffer]) -> None:
        """Decode one chunk into ``out``, which has exactly its size.

        Raises:
            CorruptError: The payload cannot be the encoding of a chunk of that size.
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
