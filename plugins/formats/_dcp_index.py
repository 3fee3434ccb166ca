"""The file `.metadata` of torch.distributed.checkpoint: which archive of which file holds each tensor.

It is a pickle of ``torch.distributed.checkpoint.metadata.Metadata``, which is read as data. A tensor in several pieces
has one name for each, which says which part of it the piece is, as in ``layer.weight[0:512]``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import PiecedTensor, TensorPiece

from ._pickle import Machine
from ._pickle_stream import PickleStream
from ._pickle_values import Budget, Global, Instance, Node

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PACKAGE = "torch.distributed.checkpoint"
_KEY = f"{_PACKAGE}.metadata.MetadataIndex"
_ROOT = f"{_PACKAGE}.metadata.Metadata"
_TENSOR = f"{_PACKAGE}.metadata.TensorStorageMetadata"
_MOST_NAMES = 1 << 26
_LONGEST_FILE = 255
_OBJECT = "tensor"
"""The name in its archive of a tensor that is saved by itself."""

_Place = tuple[int, int, str]


class DcpIndex:
    """The content of the file; see ``git_theta_ext.interfaces.ModelIndex``.

    Attributes:
        weight_map: Tensor, or piece of one, to the name of the file that holds it.
        fixed: Offset, size in bytes and name of each archive, by file.
        tensors: The tensors in several pieces, by name.
        objects: File, offset and size in bytes of each archive that is not a tensor, by name.

    Raises:
        FormatError: The pickle is damaged, or not one of this kind.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        files: dict[str, list[_Place]] = {}
        root, keys = _read(data)
        tensors = {} if root.kind != _ROOT else dict(_tensors(root.state.get("state_dict_metadata")))
        for name, file, offset, nbytes in _entries(root, keys, tensors):
            files.setdefault(file, []).append((offset, nbytes, name))
        places = {file: tuple(sorted(rows)) for file, rows in sorted(files.items())}
        names = [name for rows in places.values() for _, _, name in rows]
        if len(set(names)) < len(names):
            raise FormatError("two tensors have the same name")
        for file, rows in places.items():
            if len({offset for offset, _, _ in rows}) < len(rows):
                raise FormatError(f"two tensors are at the same place of {file}")
        self.fixed = places
        of_tensors = {piece.name for tensor in tensors.values() for piece in tensor.pieces}
        self.objects = {
            name: (file, offset, nbytes)
            for file, rows in places.items()
            for offset, nbytes, name in rows
            if name not in of_tensors
        }
        self.tensors = {name: tensor for name, tensor in tensors.items() if len(tensor.pieces) > 1}
        self.weight_map: Mapping[str, str] = MappingProxyType(
            {name: file for file, rows in places.items() for _, _, name in rows}
        )

    def name_in_model(self, file: str, name: str) -> str:
        """Return the name of a tensor, given the name that the format has for it, such as ``000012.tensor``.

        In a file with one archive, which is an ordinary one of torch, there is no number.
        """
        rows = self.fixed.get(file, ())
        number, _, rest = ("0", "", name) if len(rows) == 1 else name.partition(".")
        if not number.isdecimal() or int(number) >= len(rows):
            return name
        named = rows[int(number)][2]
        return named if rest == _OBJECT else f"{named}.{rest}"

    def moved(self, weight_map: Mapping[str, str], added: Mapping[str, int]) -> DcpIndex:  # noqa: ARG002 - see ModelIndex
        """Return the index itself: tensors stay where they are."""
        return self

    def to_bytes(self) -> bytes:
        """Return the file."""
        return self._data


class _Object(Instance):
    """An object: the name of its class, its arguments and its state."""

    __slots__ = ("kind",)

    def __init__(self, kind: str, arguments: Sequence[object]) -> None:
        super().__init__([(str(number), value) for number, value in enumerate(arguments)])
        self.kind = kind

    @property
    def state(self) -> dict[str | None, Any]:
        """The attributes that were set."""
        nodes = (node for name, node in self.items if name is None and isinstance(node, Node))
        return {key: value for node in nodes for key, value in node.items}


def _entries(
    root: _Object, keys: Sequence[_Object], tensors: Mapping[str, PiecedTensor]
) -> Iterator[tuple[str, str, int, int]]:
    """Yield the name, the file, the offset and the size in bytes of each archive."""
    stored = root.state.get("storage_data")
    if root.kind != _ROOT or not isinstance(stored, Node):
        raise FormatError("not the metadata of a checkpoint of torch.distributed")
    if len(keys) != len(stored.items):
        raise FormatError(f"the metadata has {len(keys)} keys for {len(stored.items)} places")
    pieces = {(name, piece.start): piece.name for name, tensor in tensors.items() for piece in tensor.pieces}
    left = _MOST_NAMES
    for key, (_, place) in zip(keys, stored.items, strict=True):
        name, offset = key.state.get("fqn"), _sizes(key.state.get("offset"))
        if not isinstance(name, str) or not isinstance(place, _Object):
            raise FormatError("a place without a name")
        named = name if offset is None else pieces.get((name, offset), name)
        left -= len(named)
        if left < 0:
            raise FormatError(f"the names have more than {_MOST_NAMES} characters")
        yield named, *_place(place)


def _read(data: bytes) -> tuple[_Object, list[_Object]]:
    """Return the object that the pickle describes, and the keys of its places in their order.

    The reader of pickles has no keys that are objects. Each is made when its place is, so their order is the same.
    """
    keys: list[_Object] = []

    def call(function: object, arguments: tuple[Any, ...]) -> _Object:
        made = _Object(str(function) if isinstance(function, Global) else "", arguments)
        if made.kind == _KEY:
            keys.append(made)
        return made

    stream = PickleStream(memoryview(data))
    root = Machine(call, lambda _: None, Budget(len(data))).run(stream)
    if not isinstance(root, _Object):
        raise FormatError("not the metadata of a checkpoint of torch.distributed")
    return root, keys


def _tensors(shapes: object) -> Iterator[tuple[str, PiecedTensor]]:
    """Yield the name of each tensor, and its pieces.

    Raises:
        FormatError: A shape or a place is missing.
    """
    if not isinstance(shapes, Node):
        raise FormatError("not the metadata of a checkpoint of torch.distributed")
    for name, tensor in shapes.items:
        if name is not None and isinstance(tensor, _Object) and tensor.kind == _TENSOR:
            whole, chunks = _sizes(tensor.state.get("size")), tensor.state.get("chunks")
            if whole is None or not isinstance(chunks, list):
                raise FormatError(f"tensor {name!r} has no shape or pieces")
            pieces = {}
            for chunk in chunks:
                start = _sizes(chunk.state.get("offsets")) if isinstance(chunk, _Object) else None
                size = _sizes(chunk.state.get("sizes")) if isinstance(chunk, _Object) else None
                if start is None or size is None or not len(start) == len(size) == len(whole):
                    raise FormatError(f"a piece of tensor {name!r} has no place")
                pieces[start] = TensorPiece(name + _label(whole, start, size), start, size)
            yield name, PiecedTensor(whole, tuple(piece for _, piece in sorted(pieces.items())))


def _label(whole: Sequence[int], start: Sequence[int], size: Sequence[int]) -> str:
    """Return which part of a tensor a piece is, as an index; empty if it is all of it."""
    parts = [
        ":" if not begin and count == total else f"{begin}:{begin + count}"
        for total, begin, count in zip(whole, start, size, strict=True)
    ]
    while parts and parts[-1] == ":":
        parts.pop()
    return f"[{','.join(parts)}]" if parts else ""


def _sizes(value: object) -> tuple[int, ...] | None:
    """Return the integers of a ``torch.Size``; None if the value is not one."""
    if isinstance(value, _Object) and value.kind == "torch.Size" and len(value.items) == 1:
        sizes = value.items[0][1]
        if isinstance(sizes, (tuple, list)) and all(type(n) is int and n >= 0 for n in sizes):
            return tuple(sizes)
    return None


def _place(place: _Object) -> tuple[str, int, int]:
    state = place.state
    file, offset, nbytes = (state.get(key) for key in ("relative_path", "offset", "length"))
    if not isinstance(file, str) or not _is_file_name(file):
        raise FormatError(f"{str(file)[:80]!r} is not the name of a file")
    if type(offset) is not int or type(nbytes) is not int or offset < 0 or nbytes <= 0:
        raise FormatError(f"an impossible place in {file}")
    return file, offset, nbytes


def _is_file_name(name: str) -> bool:
    return 0 < len(name) <= _LONGEST_FILE and "/" not in name and name.isprintable() and name not in {".", ".."}
