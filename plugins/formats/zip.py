"""Zip archives with checkpoints in them: `.mar`, `.zip`, old `.pt2`; compressed ones are unpacked first.

The members that are checkpoints are split into their tensors. Any other member of some size is one tensor of bytes, and
small ones are literal. The CRC-32 of a member is computed when a file is written, so tensors can be exchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _zip
from ._nested import NestedFile, nested_facts, nested_fields
from ._zip_rows import is_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.interfaces import Content, Layout, NotedFields, TensorSpec


class ZipFormat:
    """Finds the tensors of the checkpoints in a zip archive."""

    name = "zip"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the file is one archive, which no other format knows: this one is asked last."""
        return _zip.first_name(data) is not None and not is_row(data)

    def parse(self, data: Content) -> NotedFields:
        """Find the tensors. If there are several checkpoints, each has its name before those of its tensors.

        Raises:
            FormatError: The archive is damaged.
            NotSplittable: No member is a checkpoint, or a member is compressed.
        """
        return nested_fields(data, _files(data), "zip archive")

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: the checkpoints would have to be rewritten."""

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return the facts of the checkpoints, and the small members, under the names of the members."""
        return nested_facts(layout, _files)

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> None:
        """Return None: the archive would have to be rewritten."""


FORMAT = ZipFormat()


def _files(data: Content) -> Iterator[NestedFile]:
    for member in _zip.members(data):
        unpacked = all(not any(data[offset : offset + 4]) for offset in member.checksums)  # see containers/zip.py
        yield NestedFile(member.name, member.start, member.size, () if unpacked else member.checksums)
