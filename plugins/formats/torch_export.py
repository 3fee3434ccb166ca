"""Archives of ``torch.export.save``: ``.pt2``, as PyTorch writes them since version 2.8.

They are zip files. A table in JSON names the tensors of a model, and for each the record that is its storage. As in
``torch_zip``, each storage is one parameter. The program, the example inputs, and weights that were pickled, such as
those of tensor subclasses, are literal. Reading takes at most 24 times the size of the tables in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import ChecksumField, Extent, dtype, opaque, read_json

from . import _zip
from ._literal_content import LiteralContent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.interfaces import Content, Dtype, Field, Layout, TensorSpec

    from ._torch_objects import Storage, Tensor
    from ._torch_storages import StorageNames
    from ._zip import Member

_MARK = "/archive_format"
_VALUE = b"pt2"
_FOLDERS = ("weights", "constants")
_TABLE = "_config.json"
_MAX_TABLE = 1 << 26
_PASSING = frozenset((".data/serialization_id", "byteorder", ".data/version"))
"""Records about how the file was written, which do not describe the model."""
_DTYPES = {
    1: "U8", 2: "I8", 3: "I16", 4: "I32", 5: "I64", 6: "F16", 7: "F32", 8: "F64", 10: "C64", 11: "C128", 12: "BOOL",
    13: "BF16", 28: "U16", 29: "F8_E4M3", 30: "F8_E5M2", 31: "F8_E4M3FNUZ", 32: "F8_E5M2FNUZ", 33: "F8_E8M0",
    34: "U32", 35: "U64",
}  # fmt: skip
"""``ScalarType`` of torch's export schema."""
_COMPLEX_HALF = 9


class TorchExportFormat:
    """Finds tensors by the tables."""

    name = "torch_export"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the archive says that it is one of ``torch.export``."""
        return _zip.first_name(data) is not None and any(name.endswith(_MARK) for name in _zip.names(data))

    def parse(self, data: Content) -> list[Field]:
        """Find the storages and their checksums.

        Raises:
            FormatError: The archive or a table is damaged or contradicts itself. The message names the parameter if it
                concerns one.
            NotSplittable: The file is compressed.
        """
        return _read(data)[0]

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: the program would have to be rewritten."""

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return the records that are not storages by name, except those that change with every save."""
        records = {name.partition("/")[2] or name: data for name, data in _zip.literals(layout).items()}
        folders = tuple(f"data/{name}/" for name in _FOLDERS)
        return {
            name: data
            for name, data in records.items()
            if name not in _PASSING and (data or not name.startswith(folders))
        }

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> None:
        """Return None: the program would have to be rewritten."""

    def partial(self, layout: Layout) -> Mapping[str, str]:
        """Return the storages that are not one tensor each."""
        return _read(LiteralContent(layout))[1].partial

    def tied(self, layout: Layout) -> Mapping[str, str]:
        """Return the further names of tensors that share a storage."""
        return _read(LiteralContent(layout))[1].tied


FORMAT = TorchExportFormat()


def _read(data: Content) -> tuple[list[Field], StorageNames]:
    """Return the fields, and the names of the storages."""
    from ._torch_storages import StorageNames

    members = {member.name: member for member in _zip.members(data)}
    marks = [member for name, member in members.items() if name.endswith(_MARK)]
    if len(marks) != 1 or bytes(data[marks[0].start : marks[0].end][:8]).strip() != _VALUE:
        raise FormatError("the archive is not one of torch.export")
    prefix = marks[0].name.removesuffix(_MARK)
    order = members.get(f"{prefix}/byteorder")
    names = StorageNames(swapped=order is not None and bytes(data[order.start : order.end][:4]) == b"big")
    fields: list[Field] = []
    for folder in (f"{prefix}/data/{name}/" for name in _FOLDERS):
        tables = [member for name, member in members.items() if name.startswith(folder) and name.endswith(_TABLE)]
        for table in tables:
            model = table.name[len(folder) :].removesuffix(_TABLE).rpartition("_")[0]
            leaves = list(_tensors(data, table, members, folder, f"{model}." if len(tables) > 1 else ""))
            storages = {tensor.storage.key: tensor.storage for _, tensor in leaves}
            for name, storage, spec in names.name(storages, leaves):
                member = members[storage.key]
                fields.append(Extent(name, spec, member.start))
                fields += [ChecksumField(name, offset) for offset in member.checksums]
    return fields, names


def _tensors(
    data: Content, table: Member, members: Mapping[str, Member], folder: str, prefix: str
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a table with their names, each in the storage that is its record."""
    from ._torch_objects import Storage

    storages: dict[str, Storage] = {}
    for name, entry in _entries(data, table):
        match entry:
            case {"use_pickle": True}:
                continue
            case {"path_name": str() as record, "tensor_meta": dict() as meta}:
                pass
            case _:  # an object that is not a tensor
                continue
        member = members.get(folder + record)
        if member is None:
            raise FormatError(f"parameter {name!r}: the archive lacks {folder + record!r}")
        kind = _dtype(name, meta.get("dtype"))
        elements, rest = divmod(member.size * 8, kind.bits)
        if rest:
            raise FormatError(f"parameter {name!r}: {member.name!r} has {member.size} bytes, which are no {kind.name}")
        storage = storages.setdefault(member.name, Storage(member.name, kind, elements))
        yield prefix + name, _tensor(name, storage, kind, meta)


def _entries(data: Content, table: Member) -> Iterator[tuple[str, Any]]:
    if table.size > _MAX_TABLE:
        raise FormatError(f"{table.name!r} has {table.size} bytes, which exceeds the limit of {_MAX_TABLE}")
    try:
        content = read_json(str(data[table.start : table.end], "utf-8"))
    except ValueError as error:
        raise FormatError(f"{table.name!r} is not JSON: {error}") from error
    config = content.get("config") if isinstance(content, dict) else None
    if not isinstance(config, dict):
        raise FormatError(f"{table.name!r} does not list tensors")
    yield from config.items()


def _dtype(name: str, number: object) -> Dtype:
    if number == _COMPLEX_HALF:
        return opaque(32, "complex32")
    if not isinstance(number, int) or number not in _DTYPES:
        raise FormatError(f"parameter {name!r} has an unknown element type")
    return dtype(_DTYPES[number])


def _tensor(name: str, storage: Storage, kind: Dtype, meta: Mapping[str, Any]) -> Tensor:
    from ._torch_objects import tensor_of

    numbers = [_numbers(meta.get(key)) for key in ("sizes", "strides")]
    (offset,) = _numbers([meta.get("storage_offset")]) or (None,)
    try:
        return tensor_of(storage, kind, offset, *numbers)
    except FormatError as error:
        raise FormatError(f"parameter {name!r}: {error.message}") from error


def _numbers(values: object) -> tuple[int, ...] | None:
    """Return the numbers in a list of torch's export schema; None if one is symbolic."""
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        return None
    numbers = tuple(value.get("as_int") for value in values)
    return numbers if all(type(number) is int for number in numbers) else None
