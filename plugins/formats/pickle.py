"""Pickles with arrays of numpy, of joblib and scikit-learn among others: `.joblib`, `.pkl`, `.pickle`.

Each array is one parameter, and so are other strings of bytes of some size, such as the model in an object of XGBoost.
Everything else is literal. No code runs. Names are the paths to the arrays in attributes, lists and dictionaries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Extent, Literal, NotSplittable

from .torch_legacy import FORMAT as TORCH_LEGACY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.interfaces import Content, Layout, TensorSpec

_PROTO = 0x80
_PROTOCOLS = range(2, 6)


class PickleFormat:
    """Finds the bytes of arrays, and names them by the pickle."""

    name = "pickle"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the file begins and ends as a pickle, and is none of torch."""
        ends = data.nbytes > 2 and data[0] == _PROTO and data[1] in _PROTOCOLS and data[data.nbytes - 1] == ord(".")  # noqa: PLR2004 - the bytes that are read
        return ends and not TORCH_LEGACY.detect(data)

    def parse(self, data: Content) -> list[Extent]:
        """Find the arrays.

        Raises:
            NotSplittable: It has no arrays, something follows it, or it is damaged or of a kind that has none: the
                file may be the pickle of anything.
        """
        from ._numpy_objects import read_arrays
        from ._pickle_stream import PickleStream
        from ._torch_storages import StorageNames

        stream = PickleStream(data)
        try:
            storages, leaves = read_arrays(stream)
            named = StorageNames(swapped=False).name(storages, leaves, "bytes")
        except FormatError as error:
            raise NotSplittable(error.message) from error
        if stream.tell() < data.nbytes:
            raise NotSplittable(f"{data.nbytes - stream.tell()} bytes follow the pickle")
        if not storages:
            raise NotSplittable("the pickle has no arrays")
        return [Extent(name, spec, int(storage.key)) for name, storage, spec in named]

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: the pickle would have to be rewritten."""

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return the pickle without the bytes of arrays."""
        return {"pickle": b"".join(part.data for part in layout.segments if isinstance(part, Literal))}

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> None:
        """Return None: the pickle would have to be rewritten."""


FORMAT = PickleFormat()
