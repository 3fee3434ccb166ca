"""Files of ``torch.save`` before version 1.6, or with ``_use_new_zipfile_serialization=False``.

Four pickles follow each other: a magic number, the version of the protocol, facts about the machine, and the object.
A fifth lists the keys of the storages, which follow it in this order, each after its number of elements. As in
``torch_zip``, each storage is one parameter, everything else is literal, and no code runs. Reading takes the memory of
reading a pickle (``_pickle``): 40 times its size, and at most that for 64 MiB.

The keys are addresses in memory. They differ, and so does the order of the storages, whenever a model is saved again.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, cast

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Extent, Literal, NotSplittable

from ._literal_content import LiteralContent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.interfaces import Content, Layout, TensorSpec

    from ._torch_objects import Storage
    from ._torch_storages import StorageNames

_PROTO = 0x80
_NUMBER = 0x1950A86A20F9469CFC6C
_MAGIC = b"\x8a\x0a" + _NUMBER.to_bytes(10, "little")  # the opcode LONG1
_HEAD = 24
_VERSION = 1001
_COUNT = 8


class TorchLegacyFormat:
    """Finds storages by the list of keys and names them by the pickle."""

    name = "torch_legacy"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the file begins with a pickle of the magic number."""
        return data.nbytes > 0 and data[0] == _PROTO and _MAGIC in bytes(data[:_HEAD])

    def parse(self, data: Content) -> list[Extent]:
        """Find the storages.

        Raises:
            FormatError: The file or a pickle is damaged, or contradicts itself. The message names the parameter if it
                concerns one.
            NotSplittable: Something follows the last storage, such as another checkpoint.
        """
        return _read(data)[0]

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: the pickle would have to be rewritten."""

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return the pickle of the object, with the storages numbered instead of their keys."""
        parts = layout.segments
        first = parts[0].data if parts and isinstance(parts[0], Literal) else b""
        head = memoryview(first)
        start, _ = _read_head(head)
        return {"data.pkl": b"".join(_numbered(head, start))}

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> None:
        """Return None: the pickle would have to be rewritten."""

    def partial(self, layout: Layout) -> Mapping[str, str]:
        """Return the storages that are not one tensor each."""
        return _read(LiteralContent(layout))[1].partial

    def tied(self, layout: Layout) -> Mapping[str, str]:
        """Return the further names of tensors that share a storage."""
        return _read(LiteralContent(layout))[1].tied


FORMAT = TorchLegacyFormat()


def _read(data: Content) -> tuple[list[Extent], StorageNames]:
    """Return the storages, and their names."""
    from ._pickle_stream import PickleStream
    from ._torch_objects import read_objects
    from ._torch_storages import StorageNames

    at, swapped = _read_head(data)
    stream = PickleStream(data, at)
    storages, leaves = read_objects(stream)
    names = StorageNames(swapped=swapped)
    parameters = {named.storage.key: named for named in names.name(storages, leaves)}
    keys, at = _read_keys(data, stream.tell(), storages)
    extents = []
    for key in keys:
        name, storage, spec = parameters[key]
        count = bytes(data[at : at + _COUNT])
        extent = Extent(name, spec, at + _COUNT)
        if extent.end > data.nbytes:
            raise FormatError(f"parameter {name!r} ends at byte {extent.end}; the file may be truncated")
        elements = storage.elements.to_bytes(_COUNT, "little")
        if count != elements and not (swapped and count == elements[::-1]):
            raise FormatError(f"parameter {name!r} has another number of elements than in the pickle")
        extents.append(extent)
        at = extent.end
    if at < data.nbytes:
        raise NotSplittable(f"{data.nbytes - at} bytes follow the last storage, maybe another checkpoint")
    return extents, names


def _read_head(data: Content) -> tuple[int, bool]:
    """Return where the object's pickle begins, and whether numbers are in big-endian order."""
    from ._pickle_values import Node

    number, at = _read_plain(data, 0)
    version, at = _read_plain(data, at)
    machine, at = _read_plain(data, at)
    if number != _NUMBER or version != _VERSION or not isinstance(machine, Node):
        raise FormatError("the file does not begin as torch.save writes it")
    return at, dict(machine.items).get("little_endian") is False


def _read_keys(data: Content, at: int, storages: Mapping[str, Storage]) -> tuple[list[str], int]:
    keys, at = _read_plain(data, at)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise FormatError("the file has no list of storages; it may be truncated")
    if len(keys) != len(storages) or set(keys) != set(storages):
        raise FormatError("the list of storages is not that of the storages in the pickle")
    return keys, at


def _read_plain(data: Content, at: int) -> tuple[object, int]:
    """Return what a pickle without objects describes, and where it ends."""
    from ._pickle import Machine
    from ._pickle_stream import PickleStream
    from ._pickle_values import Budget

    def refuse(*_: object) -> None:
        raise FormatError("an object where torch.save writes none")

    stream = PickleStream(data, at)
    return Machine(refuse, refuse, Budget(stream.nbytes)).run(stream), stream.tell()


def _numbered(head: Content, start: int) -> Iterator[bytes]:
    """Yield the pickle of the object with its storages' keys replaced by numbers."""
    from pickletools import genops

    from ._pickle_stream import PickleStream
    from ._torch_objects import read_objects

    stream = PickleStream(head, start)
    storages, _ = read_objects(stream)
    end = stream.tell()
    numbers = {key: str(number).encode() for number, key in enumerate(storages)}
    number: bytes | None = None
    begin = start
    for _, argument, at in genops(cast("IO[bytes]", PickleStream(head, start, end))):
        assert at is not None
        yield bytes(head[begin:at]) if number is None else b"X" + len(number).to_bytes(4, "little") + number
        begin, number = at, numbers.get(argument) if isinstance(argument, str) else None
    yield bytes(head[begin:end])
