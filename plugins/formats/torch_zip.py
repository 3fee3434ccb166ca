"""Zip files that ``torch.save`` writes since version 1.6, and those of TorchScript: ``.pt``, ``.pth``, ``.bin``.

Each storage is one parameter, so tied tensors are stored once, and strided tensors in the order of the storage.
Everything else in the pickle (nested dictionaries, numbers, objects of any class) is literal bytes. ``_pickle`` reads
the pickle without running code or importing a class.

TorchScript adds code, which it compresses, and a second pickle with storages of its own, for the tensors in the code.
The inputs of a trace are in the file without their values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import ChecksumField, Extent

from . import _zip
from ._literal_content import LiteralContent
from ._zip_rows import is_row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.interfaces import Content, Field, Layout, TensorSpec

    from ._torch_storages import StorageNames
    from ._zip import Member

_PICKLE = "/data.pkl"
_CONSTANTS = "constants"
_STORAGES = ("data/", f"{_CONSTANTS}/")
_DEBUG = ".debug_pkl"
"""Records with the lines of code of TorchScript in the source code that it was made of."""
_PASSING = frozenset((".data/serialization_id", "byteorder", "version", ".format_version", ".storage_alignment"))
"""Records about how the file was written, which do not describe the model."""


class TorchZipFormat:
    """Finds storages by the zip's directory and names them by the pickle."""

    name = "torch_zip"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the file is one archive that holds a ``data.pkl``."""
        first = _zip.first_name(data)
        if first is None or is_row(data):
            return False
        return first.endswith(_PICKLE) or any(name.endswith(_PICKLE) for name in _zip.names(data))

    def parse(self, data: Content) -> list[Field]:
        """Find the storages and their checksums.

        Raises:
            FormatError: The archive or a pickle is damaged or contradicts itself. The message names the parameter if it
                concerns one.
            NotSplittable: The tensors are compressed.
        """
        return _read(data)[0]

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: the pickle would have to be rewritten."""

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return the records that are not storages by name, except those that change with every save."""
        records = {name.partition("/")[2] or name: data for name, data in _zip.literals(layout).items()}
        return {
            name: data
            for name, data in records.items()
            if name not in _PASSING and not name.endswith(_DEBUG) and (data or not name.startswith(_STORAGES))
        }

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> None:
        """Return None: the pickle would have to be rewritten."""

    def partial(self, layout: Layout) -> Mapping[str, str]:
        """Return the storages that are not one tensor each."""
        return _read(LiteralContent(layout))[1].partial

    def tied(self, layout: Layout) -> Mapping[str, str]:
        """Return the further names of tensors that share a storage."""
        return _read(LiteralContent(layout))[1].tied


FORMAT = TorchZipFormat()


def _read(data: Content) -> tuple[list[Field], StorageNames]:
    """Return the fields, and the names of the storages."""
    from ._torch_storages import StorageNames

    members = {member.name: member for member in _zip.members(data, compressed=True)}
    pickles = [name for name in members if name.endswith(_PICKLE)]
    if len(pickles) != 1:
        raise FormatError(f"a torch file has one data.pkl, but this archive has {len(pickles)}")
    prefix = pickles[0].removesuffix(_PICKLE)
    order = members.get(f"{prefix}/byteorder")
    swapped = order is not None and bytes(data[order.start : order.end][:4]) == b"big"
    names = StorageNames(swapped=swapped)
    folders = ("data", _CONSTANTS) if f"{prefix}/{_CONSTANTS}.pkl" in members else ("data",)
    return [field for folder in folders for field in _fields(data, members, f"{prefix}/{folder}", names)], names


def _fields(data: Content, members: Mapping[str, Member], stem: str, names: StorageNames) -> Iterator[Field]:
    """Yield the storages of a pickle, which are in a folder of the same name, and their checksums."""
    # Only splitting a file needs the pickle machine; detection runs on every file and does not import it.
    from ._pickle_stream import MAX_BYTES, PickleStream
    from ._torch_objects import read_objects

    pickle = members[f"{stem}.pkl"]
    _zip.require_stored(pickle)
    if pickle.size > MAX_BYTES:
        raise FormatError(f"{pickle.name!r} has {pickle.size} bytes, which exceeds the limit of {MAX_BYTES}")
    folder = stem.rpartition("/")[2]
    storages, leaves = read_objects(PickleStream(data, pickle.start, pickle.end))
    if folder == _CONSTANTS:
        leaves = ((f"{folder}.{path}", leaf) for path, leaf in leaves)
    for name, storage, spec in names.name(storages, leaves, folder):
        member = members.get(f"{stem}/{storage.key}")
        if member is None:
            raise FormatError(f"parameter {name!r}: the archive lacks {f'{stem}/{storage.key}'!r}")
        _zip.require_stored(member)
        if member.size != storage.nbytes:
            size = storage.nbytes
            raise FormatError(f"parameter {name!r}: {member.name!r} has {member.size} bytes instead of {size}")
        yield Extent(name, spec, member.start)
        for offset in member.checksums:
            yield ChecksumField(name, offset)
