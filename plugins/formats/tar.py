"""Tar archives with checkpoints in them: `.nemo` and `.tar`; compressed ones are unpacked first.

The members that are checkpoints are split into their tensors. Any other member of some size is one tensor of bytes, and
small ones are literal. The checksums in a tar are those of headers, so tensors can be exchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._nested import NestedFile, nested_facts, nested_fields
from ._tar_members import is_tar, members

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.interfaces import Content, Layout, NotedFields, TensorSpec


class TarFormat:
    """Finds the tensors of the checkpoints in a tar archive."""

    name = "tar"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the file begins with a tar header."""
        return is_tar(data)

    def parse(self, data: Content) -> NotedFields:
        """Find the tensors. If there are several checkpoints, each has its name before those of its tensors.

        Raises:
            FormatError: The archive is damaged.
            NotSplittable: No member is a checkpoint, or a member is of an unusual kind.
        """
        return nested_fields(data, _files(data), "tar archive")

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: the checkpoints would have to be rewritten."""

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return the facts of the checkpoints, and the small members, under the names of the members."""
        return nested_facts(layout, _files)

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> None:
        """Return None: the archive would have to be rewritten."""


FORMAT = TarFormat()


def _files(data: Content) -> Iterator[NestedFile]:
    for member in members(data):
        yield NestedFile(member.name.removeprefix("./"), member.start, member.size)
