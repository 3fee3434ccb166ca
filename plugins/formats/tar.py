"""Tar archives with checkpoints in them: `.nemo` and `.tar`, not compressed.

The members that are files of safetensors or PyTorch are split into their tensors. Any other member of some size is one
tensor of bytes, and small ones are literal. The checksums in a tar are those of headers, so tensors can be exchanged.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Extent, Layout, Literal, NotSplittable, RangeChecksumField, TensorSpec, moved

from ._literal_content import LiteralContent
from ._part import Part
from ._tar_members import is_tar, members
from .safetensors import FORMAT as SAFETENSORS
from .torch_legacy import FORMAT as TORCH_LEGACY
from .torch_zip import FORMAT as TORCH_ZIP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_theta_ext.interfaces import Content, Field, Format, Segment

    from ._tar_members import TarMember

_SMALL = 4096
"""The most bytes of a member that is literal."""
_INSIDE: tuple[Format, ...] = (SAFETENSORS, TORCH_ZIP, TORCH_LEGACY)


class TarFormat:
    """Finds the tensors of the checkpoints in a tar archive."""

    name = "tar"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the file begins with a tar header."""
        return is_tar(data)

    def parse(self, data: Content) -> list[Field]:
        """Find the tensors. If there are several checkpoints, each has its name before those of its tensors.

        Raises:
            FormatError: The archive is damaged.
            NotSplittable: No member is a checkpoint, or a member is of an unusual kind.
        """
        found = [(member, _fields(Part(data, member.start, member.start + member.size))) for member in members(data)]
        count = sum(fields is not None for _, fields in found)
        if not count:
            raise NotSplittable("no file in the tar archive is a checkpoint that can be split")
        names = _Names()
        result: list[Field] = []
        for member, fields in found:
            if fields is not None:
                prefix = f"{_clean(member)}/" if count > 1 else ""
                inside = [field.name for field in fields if isinstance(field, Extent)]
                given = {name: names.free(prefix + name) for name in inside}
                for field in fields:
                    named = field if isinstance(field, RangeChecksumField) else replace(field, name=given[field.name])
                    result.append(moved(named, member.start))
        for member, fields in found:
            if fields is None and member.size > _SMALL:
                result.append(Extent(names.free(_clean(member)), TensorSpec.of("U8", (member.size,)), member.start))
        return result

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: the checkpoints would have to be rewritten."""

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return the facts of the checkpoints, and the small members, under the names of the members."""
        content, segments = LiteralContent(layout), list(layout.located())
        starts = [at for at, _ in segments]
        facts: dict[str, bytes] = {}
        for member in members(content):
            end = member.start + member.size
            part = Part(content, member.start, end)
            kind = next((kind for kind in _INSIDE if kind.detect(part)), None)
            inside = _between(
                segments[max(0, bisect_left(starts, member.start) - 1) : bisect_left(starts, end)], member
            )
            if kind is not None and any(not isinstance(segment, Literal) for segment in inside):
                facts |= {f"{_clean(member)}/{key}": value for key, value in kind.facts(Layout(tuple(inside))).items()}
            elif member.size <= _SMALL:
                facts[_clean(member)] = bytes(part[:])
        return facts

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> None:
        """Return None: the archive would have to be rewritten."""


FORMAT = TarFormat()


class _Names:
    """The names that are taken; another parameter of the same name gets a number."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self._numbers: dict[str, int] = {}

    def free(self, wanted: str) -> str:
        name = wanted
        while name in self.taken:
            self._numbers[wanted] = self._numbers.get(wanted, 1) + 1
            name = f"{wanted}#{self._numbers[wanted]}"
        self.taken.add(name)
        return name


def _clean(member: TarMember) -> str:
    return member.name.removeprefix("./")


def _fields(part: Part) -> Sequence[Field] | None:
    """Return the tensors in a member; None if it is not a checkpoint that can be split."""
    for kind in _INSIDE:
        if kind.detect(part):
            try:
                fields = kind.parse(part)
            except (FormatError, NotSplittable):
                return None
            return fields if fields and all(0 <= field.offset <= field.end <= part.nbytes for field in fields) else None
    return None


def _between(segments: Sequence[tuple[int, Segment]], member: TarMember) -> list[Segment]:
    """Return those segments, and parts of literals, that are in a member."""
    end = member.start + member.size
    inside: list[Segment] = []
    for at, segment in segments:
        if isinstance(segment, Literal):
            if data := segment.data[max(0, member.start - at) : max(0, end - at)]:
                inside.append(Literal(data))
        elif member.start <= at and at + segment.nbytes <= end:
            inside.append(segment)
    return inside
