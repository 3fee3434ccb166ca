"""The conformance suite of formats. Subclass ``FormatTests`` in a pytest module of your own."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.model.checksums import checksums
from git_theta_ext.model.fields import Extent
from git_theta_ext.model.layout import Layout, Literal, Slice, layout_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Format

_CUTS = 64
_FOREIGN = (b"", b"\0", b"{", b"PK\3\4", b"\x80\x02.", b"plain text\n" * 9, bytes(range(256)) * 3, b"\xff" * 99)


def lay_out(plugin: Format, data: bytes) -> tuple[Layout, dict[str, bytes]]:
    """Return a file's layout and the bytes of its tensors by name.

    Raises:
        FormatError: As ``Format.parse``.
        NotSplittable: As ``Format.parse``.
    """
    view = memoryview(data).toreadonly()
    fields = plugin.parse(view)
    tensors = {field.name: data[field.offset : field.end] for field in fields if isinstance(field, Extent)}
    return layout_of(view, fields, lambda extent, seed: zlib.crc32(tensors[extent.name], seed)), tensors


def assemble(layout: Layout, tensors: Mapping[str, Buffer]) -> bytes:
    """Return the file that has this layout and these tensors."""
    pieces: list[Buffer] = []
    sums = checksums(layout, lambda name, seed: zlib.crc32(tensors[name], seed))
    for segment in layout.segments:
        match segment:
            case Literal(data):
                pieces.append(data)
            case Slice(name):
                pieces.append(tensors[name])
            case _:
                pieces.append(next(sums)[1])
    return b"".join(pieces)


class FormatTests:
    """What every format must do; subclass it and set the attributes.

    Attributes:
        format: The format.
        examples: Small files that it can split, by a label; at least one with a tensor of some bytes.
    """

    format: Format
    examples: Mapping[str, bytes]

    def _laid_out(self) -> Iterator[tuple[str, bytes, Layout, dict[str, bytes]]]:
        assert self.examples
        for label, data in self.examples.items():
            yield label, data, *lay_out(self.format, data)

    def test_examples_are_recognised(self) -> None:
        for label, data in self.examples.items():
            assert self.format.detect(memoryview(data)), label

    def test_some_example_has_a_tensor(self) -> None:
        assert any(any(tensors.values()) for _, _, _, tensors in self._laid_out())

    def test_a_file_comes_back_from_its_skeleton_and_its_tensors(self) -> None:
        for label, data, layout, tensors in self._laid_out():
            restored = Layout.from_skeleton(layout.to_skeleton())
            assert restored == layout, label
            assert assemble(restored, tensors) == data, label

    def test_parsing_twice_finds_the_same(self) -> None:
        for label, data, layout, _ in self._laid_out():
            assert lay_out(self.format, data)[0] == layout, label

    def test_other_values_leave_the_skeleton_as_it_is(self) -> None:
        if self.format.mergeable:
            for label, _, layout, tensors in self._laid_out():
                changed = {name: bytes(byte ^ 0x55 for byte in data) for name, data in tensors.items()}
                again, tensors_again = lay_out(self.format, assemble(layout, changed))
                assert again == layout, label
                assert tensors_again == changed, label

    def test_a_file_that_is_cut_short_raises_nothing_else_than_it_may(self) -> None:
        for data in self.examples.values():
            for end in range(0, len(data), max(1, len(data) // _CUTS)):
                self._parse_or_refuse(data[:end])

    def test_a_damaged_file_raises_nothing_else_than_it_may(self) -> None:
        for data in self.examples.values():
            for at in range(0, len(data), max(1, len(data) // _CUTS)):
                self._parse_or_refuse(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])

    def test_foreign_files_raise_nothing_else_than_they_may(self) -> None:
        for data in _FOREIGN:
            self._parse_or_refuse(data)

    def test_a_composed_layout_has_the_parameters_asked_for_and_parses_again(self) -> None:
        for label, _, layout, tensors in self._laid_out():
            kept = dict(list(layout.parameters.items())[1:])
            composed = self.format.compose(layout, kept)
            if composed is not None:
                assert composed.parameters == kept, label
                assert lay_out(self.format, assemble(composed, tensors))[0] == composed, label

    def test_facts_stay_the_same_whatever_the_values_are_and_can_be_put_back(self) -> None:
        for label, _, layout, _ in self._laid_out():
            facts = dict(self.format.facts(layout))
            written = self.format.with_facts(layout, facts)
            if written is not None:
                assert written.parameters == layout.parameters, label
                assert self.format.facts(written) == facts, label

    def _parse_or_refuse(self, data: bytes) -> None:
        self.format.detect(memoryview(data))
        try:
            layout, tensors = lay_out(self.format, data)
        except (FormatError, NotSplittable) as error:
            assert str(error)  # noqa: PT017 - which of the outcomes it is does not matter, but it must say why
        else:
            assert assemble(layout, tensors) == data
