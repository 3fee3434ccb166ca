"""The conformance suite of containers. Subclass ``ContainerTests`` in a pytest module of your own."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from git_theta_ext.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Buffer

    from git_theta_ext.interfaces import Container

_CUTS = 64
_FOREIGN = (b"", b"\0", b"PK\3\4", b"\x1f\x8b\x08", b"\x78\x9c", b"plain text\n" * 9, b"\xff" * 99)


class MemoryTarget:
    """A ``Target`` in memory.

    Attributes:
        data: What was written.
        threads: Number of threads that may compress.
        done: Number of bytes of content that were compressed.
    """

    def __init__(self, threads: int = 1) -> None:
        self.data = bytearray()
        self.threads = threads
        self.done = 0

    def advance(self, nbytes: int) -> None:
        """Count bytes that were compressed."""
        self.done += nbytes

    def another(self) -> MemoryTarget:
        """Return an empty target."""
        return MemoryTarget(self.threads)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return len(self.data)

    @overload
    def __getitem__(self, key: int, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> memoryview: ...
    def __getitem__(self, key: int | slice, /) -> int | memoryview:
        """Return a byte, or a copy of a range."""
        return self.data[key] if isinstance(key, int) else memoryview(bytes(self.data[key]))

    def write(self, offset: int, data: Buffer, /) -> None:
        """Write bytes at an offset."""
        view = memoryview(data).cast("B")
        self.data += bytes(max(0, offset - len(self.data)))
        self.data[offset : offset + view.nbytes] = view


def unpacked(container: Container, data: bytes) -> tuple[bytes, bytes] | None:
    """Return the content and the recipe of a file; None if it is not unpacked."""
    target = MemoryTarget()
    recipe = container.unpack(memoryview(data), target) if container.detect(memoryview(data)) else None
    return None if recipe is None else (bytes(target.data), recipe)


def packed(container: Container, content: bytes, recipe: bytes) -> bytes:
    """Return the file that has some content."""
    target = MemoryTarget()
    container.pack(memoryview(content), recipe, target)
    return bytes(target.data)


class ContainerTests:
    """What every container must do; subclass it and set the attributes.

    Attributes:
        container: The container.
        examples: Small files that it unpacks, and their content, by a label.
    """

    container: Container
    examples: Mapping[str, tuple[bytes, bytes]]

    def test_examples_are_unpacked_and_packed_again(self) -> None:
        assert self.examples
        for label, (data, content) in self.examples.items():
            found = unpacked(self.container, data)
            assert found is not None, label
            assert found[0] == content, label
            assert packed(self.container, *found) == data, label
            assert unpacked(self.container, data) == found, label

    def test_threads_change_nothing(self) -> None:
        for label, (data, content) in self.examples.items():
            target, again = MemoryTarget(3), MemoryTarget(3)
            recipe = self.container.unpack(memoryview(data), target)
            assert recipe is not None, label
            assert target.data == content, label
            self.container.pack(memoryview(content), recipe, again)
            assert again.data == data, label

    def test_other_content_comes_back(self) -> None:
        """Files whose content has the same structure and other values, as merges write them."""
        for label, (data, content) in self.examples.items():
            found = unpacked(self.container, data)
            assert found is not None, label
            middle = len(content) // 2
            changed = (
                content[:middle] + bytes(byte ^ 0x55 for byte in content[middle : middle + 8]) + content[middle + 8 :]
            )
            again = unpacked(self.container, packed(self.container, changed, found[1]))
            assert again == (changed, found[1]), label

    def test_a_file_that_is_cut_short_or_damaged_is_not_unpacked_or_comes_back(self) -> None:
        for data, _ in self.examples.values():
            for at in range(0, len(data), max(1, len(data) // _CUTS)):
                self._comes_back(data[:at])
                self._comes_back(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])

    def test_foreign_files_are_not_unpacked(self) -> None:
        for data in _FOREIGN:
            assert unpacked(self.container, data) is None

    def test_a_damaged_recipe_raises_nothing_else_than_it_may(self) -> None:
        for data, content in self.examples.values():
            found = unpacked(self.container, data)
            assert found is not None
            recipe = found[1]
            for damaged in (b"", recipe[:1], recipe[:-1], recipe + b"\0", b"\0" + recipe[1:], b"\xff" * len(recipe)):
                self._pack_or_refuse(content, damaged)

    def _pack_or_refuse(self, content: bytes, recipe: bytes) -> None:
        try:
            packed(self.container, content, recipe)
        except FormatError as error:
            assert str(error)  # noqa: PT017 - which of the outcomes it is does not matter, but it must say why

    def _comes_back(self, data: bytes) -> None:
        found = unpacked(self.container, data)
        assert found is None or packed(self.container, *found) == data
