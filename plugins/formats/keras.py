"""Keras models: `.keras`, a zip with the weights in an HDF5 file.

See https://keras.io/guides/serialization_and_saving/. The tensors are those of the HDF5 files among the members. The
CRC-32 of such a member is of several tensors and what is between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Part, RangeChecksumField, moved

from . import _zip
from .hdf5 import FORMAT as HDF5

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.interfaces import Content, Field, Layout, TensorSpec

_CONFIGURATION = "config.json"
_PASSING = frozenset(("metadata.json",))
"""Members about when and by which version the file was written, which do not describe the model."""
_WEIGHTS = ".weights.h5"


class KerasFormat:
    """Finds the datasets of the HDF5 files in a zip archive."""

    name = "keras"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the archive has a configuration and weights."""
        if _zip.first_name(data) is None:
            return False
        names = _zip.names(data)
        return _CONFIGURATION in names and any(name.endswith(_WEIGHTS) for name in names)

    def parse(self, data: Content) -> list[Field]:
        """Find the datasets. Their names are their paths; a second file of weights is named before them.

        Raises:
            FormatError: The archive or a file of weights is damaged.
            NotSplittable: A member is compressed, or its HDF5 file cannot be split.
        """
        weights = [member for member in _zip.members(data) if member.name.endswith(_WEIGHTS)]
        found: list[Field] = []
        for member in weights:
            part = Part(data, member.start, member.end)
            if not HDF5.detect(part):
                raise FormatError(f"zip member {member.name!r} is not an HDF5 file")
            prefix = f"{member.name.removesuffix(_WEIGHTS)}/" if len(weights) > 1 else ""
            for extent in HDF5.parse(part):
                if extent.end > part.nbytes:
                    raise FormatError(f"parameter {extent.name!r} is outside of {member.name!r}")
                found.append(moved(extent, member.start, prefix))
            found += [RangeChecksumField(member.start, member.end, offset) for offset in member.checksums]
        return found

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: the archive would have to be rewritten."""

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return the bytes of the members outside the tensors, under their names."""
        return {name: data for name, data in _zip.literals(layout).items() if name not in _PASSING}

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> Layout | None:
        """Return the layout if it has these facts, else None."""
        return layout if facts == self.facts(layout) else None


FORMAT = KerasFormat()
