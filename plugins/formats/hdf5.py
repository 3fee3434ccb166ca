"""HDF5 files: `.h5`, `.hdf5`, `.weights.h5`, as h5py and Keras write them.

See https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html. A dataset in one piece is a tensor, and so is
each chunk of a dataset in chunks; a chunk that passed a filter, such as compression, is a tensor of bytes. Datasets
whose values refer to elsewhere in the file, such as texts of varying length, stay literal. Reading takes at most 16
times the size of the structure between the tensors in memory, and stops after a million parts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Extent, NotSplittable, Part, TensorSpec, opaque

from ._fixed_rest import FixedRest
from ._hdf5_chunks import places
from ._hdf5_elements import element_of
from ._hdf5_file import DATASPACE, DATATYPE, FILTERS, LAYOUT, MAGIC, File, base_of
from ._hdf5_trees import links
from ._hdf5_types import Contiguous, layout_of, most_of, shape_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.interfaces import Content

    from ._hdf5_file import Message

_LONGEST_NAMES = 1 << 16
_DEEPEST = 64
_MOST_LITERAL = 1 << 26
_LAST_START = 1 << 16
"""Up to where a file may begin, after what its user put before it."""
_SHARED_TYPES = {1: 8, 2: 2, 3: 2}
"""Where the address of a shared message is, by the version."""


class Hdf5Format(FixedRest):
    """Finds datasets by the groups that list them."""

    name = "hdf5"
    rest = "structure"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the file begins with the signature, or has it after a block of its user, as MATLAB's have."""
        return _start(data) is not None

    def parse(self, data: Content) -> list[Extent]:
        """Find the datasets. Their names are their paths, without the first slash.

        The name of a chunk ends with its position in chunks, as in ``weights[0,2]``.

        Raises:
            FormatError: The file is truncated or damaged; the message names the dataset if it is known.
            NotSplittable: The version is unknown, there are too many groups and chunks, or too much is in none.
        """
        start = _start(data) or 0
        file = File(Part(data, start, data.nbytes), start)
        names, outside = _LONGEST_NAMES + data.nbytes, data.nbytes
        found = []
        for extent in _objects(file, file.root, "", 0):
            names -= len(extent.name)
            outside -= extent.spec.nbytes
            if names < 0:
                raise NotSplittable("the names of its datasets are longer than the file")
            found.append(replace(extent, offset=start + extent.offset))
        if outside > _MOST_LITERAL:
            raise NotSplittable(f"{outside} bytes are outside of datasets that can be split")
        return found


FORMAT = Hdf5Format()


def _start(data: Content) -> int | None:
    """Return where the file begins; None if it does not."""
    if bytes(data[: len(MAGIC)]) == MAGIC:
        return 0
    at = 512
    while at <= _LAST_START and at < data.nbytes:
        if bytes(data[at : at + len(MAGIC)]) == MAGIC:
            # In an archive, such a file says that it begins at the first byte.
            return at if base_of(Part(data, at, data.nbytes)) == at else None
        at *= 2
    return None


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
        return
    if isinstance(layout, Contiguous):
        yield from _whole(path, TensorSpec(kind, shape), layout)
        return
    whole = TensorSpec(kind, layout.shape)
    if not whole.nbytes or len(layout.shape) != len(shape):
        raise FormatError(f"chunks {list(layout.shape)} of the shape {list(shape)}")
    single = all(n <= size for n, size in zip(shape, layout.shape, strict=True))
    most = most_of(file, messages[DATASPACE], shape)
    for position, address, nbytes in places(file, layout, shape, most, whole.nbytes):
        name = path if single else f"{path}[{','.join(map(str, position))}]"
        if FILTERS in messages:
            yield Extent(name, TensorSpec(opaque(8, "filtered"), (nbytes,)), address)
        elif nbytes == whole.nbytes:
            yield Extent(name, whole, address)
        else:
            raise FormatError(f"{name!r} has {nbytes} bytes instead of {whole.nbytes}")


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
