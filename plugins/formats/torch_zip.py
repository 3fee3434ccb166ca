"""Zip files that ``torch.save`` writes since version 1.6: ``.pt``, ``.pth``, ``.bin``.

Each storage is one parameter, so tied tensors are stored once, and strided tensors in the order of the storage.
Everything else in the pickle (nested dictionaries, numbers, objects of any class) is literal bytes. ``_pickle`` reads
the pickle without running code or importing a class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import ChecksumField, Dtype, Extent, NotSplittable, TensorSpec, opaque

from . import _zip

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from git_theta_ext.interfaces import Content, Field, Layout

    from ._torch_objects import Leaf, Storage, Tensor
    from ._zip import Member

_PICKLE = "/data.pkl"
_SCRIPT = "/constants.pkl"
_PASSING = frozenset((".data/serialization_id", "byteorder", "version", ".format_version", ".storage_alignment"))
"""Records about how the file was written, which do not describe the model."""
_LEGACY_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # LONG1 0x1950a86a20f9469cfc6c
_LEGACY_HEAD = 24
_PROTO = 0x80


class TorchZipFormat:
    """Finds storages by the zip's directory and names them by the pickle."""

    name = "torch_zip"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the archive holds a ``data.pkl``, or the file begins with torch's older magic number."""
        first = _zip.first_name(data)
        if first is None:
            return _is_legacy(data)
        return first.endswith(_PICKLE) or any(name.endswith(_PICKLE) for name in _zip.names(data))

    def parse(self, data: Content) -> list[Field]:
        """Find the storages and their checksums.

        Raises:
            FormatError: The archive or its pickle is damaged or contradicts itself. The message names the parameter if
                it concerns one.
            NotSplittable: The file is compressed, in the legacy format, or TorchScript.
        """
        if _is_legacy(data):
            raise NotSplittable("legacy torch file; save it again with torch.save(torch.load(...), ...)")
        if any(name.endswith(_SCRIPT) for name in _zip.names(data)):
            raise NotSplittable("TorchScript, whose tensors are named by code; save the state_dict instead")
        members = {member.name: member for member in _zip.members(data)}
        pickles = [name for name in members if name.endswith(_PICKLE)]
        if len(pickles) != 1:
            raise FormatError(f"a torch file has one data.pkl, but this archive has {len(pickles)}")
        prefix = pickles[0].removesuffix(_PICKLE)
        order = members.get(f"{prefix}/byteorder")
        swapped = order is not None and bytes(data[order.start : order.end][:4]) == b"big"
        return _fields(members, f"{prefix}/data/", _read(data, members[pickles[0]]), swapped=swapped)

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: the pickle would have to be rewritten."""

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return the records that are not storages by name, except those that change with every save."""
        records = {name.partition("/")[2] or name: data for name, data in _zip.literals(layout).items()}
        storages = {name for name, data in records.items() if name.startswith("data/") and not data}
        return {name: data for name, data in records.items() if name not in _PASSING and name not in storages}

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> None:
        """Return None: the pickle would have to be rewritten."""


FORMAT = TorchZipFormat()


@dataclass(slots=True)
class _Use:
    """A storage, the first path to it, and the first tensor that covers it completely."""

    storage: Storage
    path: str
    whole: Tensor | None = None


def _is_legacy(data: Content) -> bool:
    return data.nbytes > 0 and data[0] == _PROTO and _LEGACY_MAGIC in bytes(data[:_LEGACY_HEAD])


def _read(data: Content, member: Member) -> list[_Use]:
    # Only splitting a file needs the pickle machine; detection runs on every file and does not import it.
    from ._pickle import MAX_BYTES
    from ._torch_objects import read_objects

    if member.size > MAX_BYTES:
        raise FormatError(f"{member.name!r} has {member.size} bytes, which exceeds the limit of {MAX_BYTES}")
    storages, leaves = read_objects(bytes(data[member.start : member.end]))
    uses = _uses(leaves)
    # A storage that is in no container is a parameter too.
    rest = (_Use(storage, f"data/{key}") for key, storage in storages.items() if key not in uses)
    return [*uses.values(), *rest]


def _uses(leaves: Iterable[tuple[str, Leaf]]) -> dict[str, _Use]:
    from ._torch_objects import Tensor

    uses: dict[str, _Use] = {}
    for path, leaf in leaves:
        storage = leaf.storage if isinstance(leaf, Tensor) else leaf
        use = uses.setdefault(storage.key, _Use(storage, path))
        if isinstance(leaf, Tensor):
            if not leaf.inside:
                raise FormatError(f"parameter {path!r} reaches outside its storage {storage.key!r}")
            if use.whole is None and leaf.whole:
                use.path, use.whole = path, leaf
    return uses


def _fields(members: Mapping[str, Member], folder: str, uses: list[_Use], *, swapped: bool) -> list[Field]:
    fields: list[Field] = []
    numbers: dict[str, int] = {}
    taken: set[str] = set()
    for use in uses:
        name = use.path
        while name in taken:
            numbers[use.path] = numbers.get(use.path, 1) + 1
            name = f"{use.path}#{numbers[use.path]}"
        taken.add(name)
        member = members.get(folder + use.storage.key)
        if member is None:
            raise FormatError(f"parameter {name!r}: the archive lacks {folder + use.storage.key!r}")
        if member.size != use.storage.nbytes:
            size = use.storage.nbytes
            raise FormatError(f"parameter {name!r}: {member.name!r} has {member.size} bytes instead of {size}")
        fields.append(Extent(name, _spec(use, swapped=swapped), member.start))
        fields.extend(ChecksumField(name, offset) for offset in member.checksums)
    return fields


def _spec(use: _Use, *, swapped: bool) -> TensorSpec:
    if use.whole is None:
        return TensorSpec(_ordered(use.storage.dtype, swapped=swapped), (use.storage.elements,))
    return TensorSpec(_ordered(use.whole.dtype, swapped=swapped), use.whole.shape)


def _ordered(kind: Dtype, *, swapped: bool) -> Dtype:
    """Return an element type as an opaque one if its bytes are in swapped order."""
    return opaque(kind.bits, f">{kind.name}") if swapped and kind.bits > 8 else kind  # noqa: PLR2004 - one byte
