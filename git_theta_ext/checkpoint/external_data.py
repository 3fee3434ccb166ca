"""The tensors of a file that does not say where they are: another file of the model has their names and places.

Such a file is stored in chunks, because its manifest depends on its bytes alone. Here it is read as tensors.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.clean import clean
from git_theta_ext.checkpoint.populate import populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.interfaces import ExternalDataFormat
from git_theta_ext.model.content import RangeContent
from git_theta_ext.model.fields import Extent, in_file_order
from git_theta_ext.model.layout import layout_of
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import TensorHasher
from git_theta_ext.records import dataclass
from git_theta_ext.registry import find_format
from git_theta_ext.store.batches import Batches
from git_theta_ext.util.file_bytes import open_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from git_theta_ext.model.external_tensor import ExternalTensor
    from git_theta_ext.model.layout import Layout
    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.store import Store

    Known = dict[tuple[object, ...], Parameter]
    """What the pieces of chunks that hold a tensor are, and the tensor."""

STORED = "opaque"
"""The format in which such a file is stored."""
_CHUNK = "chunk/"
_PIECE = 1 << 19


def has_external_data(format_name: str) -> bool:
    """Return whether files of a format may say where tensors are in other files."""
    return isinstance(find_format(format_name), ExternalDataFormat)


def external_tensors(manifest: Manifest, layout: Layout) -> dict[str, list[ExternalTensor]]:
    """Return the tensors in other files, by file.

    Args:
        manifest: Of the file that says where they are; see ``has_external_data``.
        layout: The layout of that file.

    Raises:
        FormatError: The file is damaged.
    """
    file_format = find_format(manifest.format)
    assert isinstance(file_format, ExternalDataFormat)
    files: dict[str, list[ExternalTensor]] = {}
    for tensor in file_format.external_tensors(layout):
        files.setdefault(tensor.file, []).append(tensor)
    return files


class StoredChunks(RangeContent):
    """The bytes of a file that is stored in chunks; see ``git_theta_ext.model.content.Content``.

    Args:
        manifest: Of the file.
        read: Returns a chunk.

    Attributes:
        nbytes: Size of the file.
    """

    def __init__(self, manifest: Manifest, read: Callable[[str, Parameter], memoryview]) -> None:
        self._chunks = list(manifest.parameters.items())  # sorted by name, which is their order
        self._ends = list(accumulate(chunk.spec.nbytes for _, chunk in self._chunks))
        self._read_chunk = read
        self._last = (-1, memoryview(b""))
        self.nbytes = self._ends[-1] if self._ends else 0

    def read(self, start: int, stop: int) -> memoryview:
        """Return a copy of a range."""
        parts = [self._chunk(number)[begin:end] for number, begin, end in self._pieces(start, stop)]
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))

    def key(self, start: int, stop: int) -> tuple[object, ...]:
        """Return what a range consists of: equal keys mean equal bytes."""
        pieces = self._pieces(start, stop)
        return tuple((self._chunks[number][1].digest, begin, end) for number, begin, end in pieces)

    def digests(self, start: int, stop: int) -> set[Digest]:
        """Return the digests of the chunks that a range is in."""
        return {self._chunks[number][1].digest for number, _, _ in self._pieces(start, stop)}

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the number of each chunk in a range, and which part of the chunk is in it."""
        number = bisect_right(self._ends, start)
        while start < stop:
            begin = self._ends[number - 1] if number else 0
            end = min(stop, self._ends[number])
            yield number, start - begin, end - begin
            start = end
            number += 1

    def _chunk(self, number: int) -> memoryview:
        last = self._last  # another thread may replace it
        if last[0] != number:
            self._last = last = (number, self._read_chunk(*self._chunks[number]))
        return last[1]


@dataclass(frozen=True)
class ExternalFile:
    """A file that is stored in chunks, and the tensors in it.

    Attributes:
        content: Its bytes.
        tensors: Where its tensors are, in file order. Of several at one place, only the first counts.

    Raises:
        FormatError: A tensor is not inside the file.
    """

    content: StoredChunks
    tensors: tuple[Extent, ...]

    @classmethod
    def of(cls, content: StoredChunks, tensors: Sequence[ExternalTensor]) -> ExternalFile:
        """Return the file with the tensors that do not overlap an earlier one."""
        kept: list[Extent] = []
        for tensor in sorted(tensors, key=lambda one: (one.offset, one.name)):
            if not kept or tensor.offset >= kept[-1].end:
                kept.append(Extent(tensor.name, tensor.spec, tensor.offset))
        in_file_order(kept, content.nbytes)
        return cls(content, tuple(kept))

    @cached_property
    def layout(self) -> Layout:
        """The layout of the file, with these tensors."""
        return layout_of(self.content, self.tensors, lambda *_: 0)

    @cached_property
    def extents(self) -> Mapping[str, Extent]:
        """The place of each tensor by name."""
        return {extent.name: extent for extent in self.tensors}

    @cached_property
    def keys(self) -> Mapping[str, tuple[object, ...]]:
        """What each tensor is made of, by name: equal keys mean equal tensors."""
        return {one.name: (one.spec, *self.content.key(one.offset, one.end)) for one in self.tensors}

    def value(self, name: str) -> memoryview:
        """Return a tensor's bytes."""
        extent = self.extents[name]
        return self.content[extent.offset : extent.end]

    def chunks(self, name: str) -> Iterator[memoryview]:
        """Yield a tensor's bytes, ``spec.chunk_bytes`` at a time."""
        extent = self.extents[name]
        for start in range(extent.offset, extent.end, extent.spec.chunk_bytes):
            yield self.content[start : min(start + extent.spec.chunk_bytes, extent.end)]

    def manifest(self, format_name: str, known: Known) -> Manifest:
        """Return a manifest of the tensors, which is not that of the file.

        Args:
            format_name: The format that it names.
            known: Tensors whose digests are known, to which the others are added.
        """
        parameters = {}
        for name, key in self.keys.items():
            if key not in known:
                extent = self.extents[name]
                known[key] = Parameter(extent.spec, self._digest(extent.spec, extent))
            parameters[name] = known[key]
        return Manifest(format_name, Skeleton.of(self.layout.to_skeleton()), parameters)

    def store_tensors(self, store: Store, known: Known) -> Manifest:
        """Store the tensors and the layout by themselves, and return their manifest.

        They are stored twice then. No commit names them, so that garbage collection removes them.

        Args:
            store: The store.
            known: Tensors that were stored by an earlier call, to which the others are added.
        """
        skeleton = self.layout.to_skeleton()
        results, parameters = Batches(store), {}
        for name, key in self.keys.items():
            if key not in known:
                known[key] = results.add(self.extents[name].spec, self.value(name))
            parameters[name] = known[key]
        results.flush()
        made = Skeleton.of(skeleton)
        store.put([(made.spec, made.digest, memoryview(skeleton))])
        return Manifest(STORED, made, parameters)

    def _digest(self, spec: TensorSpec, extent: Extent) -> Digest:
        hasher = TensorHasher(spec)
        for start in range(extent.offset, extent.end, _PIECE):
            hasher.update(self.content[start : min(start + _PIECE, extent.end)])
        return hasher.digest()


def is_of_tensors(manifest: Manifest) -> bool:
    """Return whether a manifest is one of ``ExternalFile.store_tensors`` or of a merge of these."""
    return manifest.format == STORED and not all(name.startswith(_CHUNK) for name in manifest.parameters)


def is_in_chunks(manifest: Manifest) -> bool:
    """Return whether the bytes of a file are its chunks, one after the other."""
    return manifest.format == STORED and bool(manifest.parameters) and not is_of_tensors(manifest)


def in_chunks_again(manifest: Manifest, store: Store, path: str) -> Manifest:
    """Return the manifest of the file that tensors make up, which is stored in chunks; other manifests as they are.

    Args:
        manifest: Of tensors, without conflicts; or any other manifest.
        store: Holds the tensors.
        path: For messages.

    Raises:
        ThetaError: A tensor is missing or damaged, or the store cannot be written.
    """
    if not is_of_tensors(manifest) or manifest.conflicted:
        return manifest
    with TemporaryDirectory(dir=store.root, prefix="external-") as folder:
        file = Path(folder) / "data"
        populate(manifest, store, file, Expected.at(file))
        return clean(open_bytes(file), path, store, STORED).manifest
