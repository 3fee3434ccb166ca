"""HDF5 files: `.h5`, `.hdf5`, `.weights.h5`, as h5py and Keras write them.

See https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html. A dataset in one piece is a tensor, and so is
each chunk of a dataset in chunks; a chunk that passed a filter, such as compression, is a tensor of bytes. Datasets of
references, texts of varying length and compound types stay literal. Reading takes at most 16 times the size of the
structure between the tensors in memory, and stops after a million parts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Extent, Literal, NotSplittable, TensorSpec, opaque

from ._hdf5_file import DATASPACE, DATATYPE, FILTERS, LAYOUT, MAGIC, File
from ._hdf5_trees import chunks, links
from ._hdf5_types import IMPLICIT, TREE, Chunked, Contiguous, element_of, layout_of, shape_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.interfaces import Content, Dtype, Layout

    from ._hdf5_file import Message

_LONGEST_NAMES = 1 << 16
_DEEPEST = 64
_MOST_LITERAL = 1 << 16
_LEAST_CHUNK = 1 << 5
_SHARED_TYPES = {1: 8, 2: 2, 3: 2}
"""Where the address of a shared message is, by the version."""


class Hdf5Format:
    """Finds datasets by the groups that list them."""

    name = "hdf5"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the file begins with the signature."""
        return bytes(data[: len(MAGIC)]) == MAGIC

    def parse(self, data: Content) -> list[Extent]:
        """Find the datasets. Their names are their paths, without the first slash.

        The name of a chunk ends with its position in chunks, as in ``weights[0,2]``.

        Raises:
            FormatError: The file is truncated or damaged; the message names the dataset if it is known.
            NotSplittable: Groups or chunks are listed in a way that is not read, or there are too many.
        """
        file = File(data)
        budget = _LONGEST_NAMES + data.nbytes
        found = []
        for extent in _objects(file, file.root, "", 0):
            budget -= len(extent.name)
            if budget < 0:
                raise NotSplittable("the names of its datasets are longer than the file")
            found.append(extent)
        return found

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: the groups would have to be rewritten."""

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return all bytes besides the tensors: groups, attributes and texts."""
        return {"structure": b"".join(part.data for part in layout.segments if isinstance(part, Literal))}

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> Layout | None:
        """Return the layout if it has these facts, else None."""
        return layout if facts == self.facts(layout) else None


FORMAT = Hdf5Format()


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk of a dataset: its name, its spec before filters, and its place."""

    name: str
    spec: TensorSpec
    address: int
    nbytes: int


def _objects(file: File, header: int, path: str, depth: int) -> Iterator[Extent]:
    """Yield the tensors of a dataset, or of all datasets of a group."""
    if depth > _DEEPEST:
        raise NotSplittable(f"groups are nested more than {_DEEPEST} deep")
    messages = list(file.messages(header))
    by_kind = {message.kind: message for message in messages}
    if LAYOUT in by_kind:
        try:
            yield from _dataset(file, path, by_kind)
        except FormatError as error:
            raise FormatError(f"dataset {path!r}: {error.message}") from error
        return
    met: set[int] = set()
    for name, address in links(file, messages):
        # A second name of an object, a hard link, gives nothing new; a group in itself would never end.
        if address not in met and not file.visited(address):
            met.add(address)
            yield from _objects(file, address, f"{path}/{name}" if path else name, depth + 1)


def _dataset(file: File, path: str, messages: Mapping[int, Message]) -> Iterator[Extent]:
    layout = layout_of(file, messages[LAYOUT])
    if layout is None or layout.address is None:
        return
    if DATASPACE not in messages or DATATYPE not in messages:
        raise FormatError("it has no shape or element type")
    shape = shape_of(file, messages[DATASPACE])
    kind = element_of(file, _unshared(file, messages[DATATYPE]))
    if shape is None or kind is None:
        if isinstance(layout, Chunked) or layout.nbytes > _MOST_LITERAL:
            raise NotSplittable(f"dataset {path!r} is large, and has references or compound elements")
        return
    if isinstance(layout, Contiguous):
        yield from _whole(path, TensorSpec(kind, shape), layout)
        return
    for chunk in _chunks(file, path, layout, shape, kind):
        if FILTERS in messages:
            yield Extent(chunk.name, TensorSpec(opaque(8, "filtered"), (chunk.nbytes,)), chunk.address)
        elif chunk.nbytes == chunk.spec.nbytes:
            yield Extent(chunk.name, chunk.spec, chunk.address)
        else:
            raise FormatError(f"{chunk.name!r} has {chunk.nbytes} bytes instead of {chunk.spec.nbytes}")


def _whole(path: str, spec: TensorSpec, layout: Contiguous) -> Iterator[Extent]:
    if spec.nbytes != layout.nbytes:
        raise FormatError(f"{spec} has {spec.nbytes} bytes, but {layout.nbytes} are in the file")
    if layout.address is not None and spec.nbytes:
        yield Extent(path, spec, layout.address)


def _unshared(file: File, message: Message) -> int:
    """Return where the content of a datatype message is, which may be in the header of a named type."""
    if not message.shared:
        return message.start
    version = file.number(message.start, 1)
    address = file.address(message.start + _SHARED_TYPES.get(version, 2))
    if version not in _SHARED_TYPES or address is None:
        raise NotSplittable("an element type is shared in a way that is not read")
    for other in file.messages_again(address):
        if other.kind == DATATYPE and not other.shared:
            return other.start
    raise FormatError(f"no element type at byte {address}")


def _chunks(file: File, path: str, layout: Chunked, shape: Sequence[int], kind: Dtype) -> Iterator[_Chunk]:
    """Yield the chunks of a dataset, in the order of their index."""
    whole = TensorSpec(kind, layout.shape)
    if not whole.nbytes or len(layout.shape) != len(shape) or layout.address is None:
        raise FormatError(f"chunks {list(layout.shape)} of the shape {list(shape)}")
    counts = [-(-n // size) for n, size in zip(shape, layout.shape, strict=True)]
    single = all(n <= 1 for n in counts)
    if layout.index == TREE:
        places = chunks(file, layout.address, len(shape))
    elif layout.index == IMPLICIT:
        places = _implicit(file, layout, counts, whole.nbytes)
    else:
        places = iter([((0,) * len(shape), layout.address, layout.nbytes or whole.nbytes)])
    for offset, address, nbytes in places:
        position = ",".join(str(n // size) for n, size in zip(offset, layout.shape, strict=True))
        yield _Chunk(path if single else f"{path}[{position}]", whole, address, nbytes)


def _implicit(
    file: File, layout: Chunked, counts: Sequence[int], nbytes: int
) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Yield the offset, the address and the size of chunks that follow each other."""
    from itertools import product

    assert layout.address is not None
    count = math.prod(counts)
    if layout.address + count * nbytes > file.data.nbytes:
        raise FormatError(f"{count} chunks of {nbytes} bytes at byte {layout.address}; the file may be truncated")
    if count > 1 and nbytes < _LEAST_CHUNK:
        raise NotSplittable(f"it has chunks of {nbytes} bytes")
    for number, position in enumerate(product(*map(range, counts)) if count else ()):
        file.count()
        offset = tuple(n * size for n, size in zip(position, layout.shape, strict=True))
        yield offset, layout.address + number * nbytes, nbytes
