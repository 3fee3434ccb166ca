"""Archives of `torch.package`: `.pt`, with code, and pickles whose storages are in the folder `.data`.

See https://docs.pytorch.org/docs/stable/package.html. As in ``torch_zip``, each storage is one parameter. Code and
pickles are literal, and neither runs. A pickle that describes no tensors, or has TorchScript in it, names no storages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import ChecksumField, Extent, NotSplittable

from . import _zip

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.interfaces import Content, Field, Layout, TensorSpec

    from ._torch_objects import Leaf, Storage
    from ._zip import Member

_MARK = "/.data/extern_modules"
_PASSING = frozenset((".data/serialization_id", "byteorder", ".data/version", ".data/python_version"))
"""Records about how the file was written, which do not describe the model."""


class TorchPackageFormat:
    """Finds storages by the zip's directory and names them by the pickles."""

    name = "torch_package"
    mergeable = True

    def detect(self, data: Content) -> bool:
        """Return whether the archive lists the modules that a package imports from outside."""
        return _zip.first_name(data) is not None and any(name.endswith(_MARK) for name in _zip.names(data))

    def parse(self, data: Content) -> list[Field]:
        """Find the storages and their checksums. Of several pickles, each has its name before those of its tensors.

        Raises:
            FormatError: The archive is damaged, or contradicts a pickle. The message names the parameter if it concerns
                one.
            NotSplittable: The file is compressed, or no pickle has tensors.
        """
        from ._torch_storages import StorageNames

        members = {member.name: member for member in _zip.members(data)}
        prefix = next(name for name in members if name.endswith(_MARK)).removesuffix(_MARK)
        order = members.get(f"{prefix}/byteorder")
        names = StorageNames(swapped=order is not None and bytes(data[order.start : order.end][:4]) == b"big")
        pickles = [(member, found) for member in members.values() if (found := _objects(data, member))]
        fields: list[Field] = []
        done: set[str] = set()
        for pickle, (storages, leaves) in pickles:
            path = pickle.name.removeprefix(f"{prefix}/").removesuffix(".pkl")
            named = ((f"{path}.{name}" if len(pickles) > 1 else name, leaf) for name, leaf in leaves)
            for name, storage, spec in names.name(storages, named, ".data"):
                member = members.get(f"{prefix}/.data/{storage.key}.storage")
                if member is None or member.size != storage.nbytes:
                    raise FormatError(f"parameter {name!r}: the archive lacks its storage of {storage.nbytes} bytes")
                if storage.key not in done:
                    fields.append(Extent(name, spec, member.start))
                    fields += [ChecksumField(name, offset) for offset in member.checksums]
                done.add(storage.key)
        if not fields:
            raise NotSplittable("the package has no tensors")
        return fields

    def compose(self, layout: Layout, parameters: Mapping[str, TensorSpec]) -> None:
        """Return None: the pickles would have to be rewritten."""

    def facts(self, layout: Layout) -> dict[str, bytes]:
        """Return the records that are not storages by name, except those that change with every save."""
        records = {name.partition("/")[2] or name: data for name, data in _zip.literals(layout).items()}
        return {
            name: data
            for name, data in records.items()
            if name not in _PASSING and (data or not name.endswith(".storage"))
        }

    def with_facts(self, layout: Layout, facts: Mapping[str, bytes]) -> None:
        """Return None: the pickles would have to be rewritten."""


FORMAT = TorchPackageFormat()


def _objects(data: Content, member: Member) -> tuple[Mapping[str, Storage], Iterator[tuple[str, Leaf]]] | None:
    """Return the storages and tensors of a pickle; None if it is another file, or has objects of another kind."""
    # Only splitting a file needs the pickle machine; detection runs on every file and does not import it.
    from ._pickle_stream import MAX_BYTES, PickleStream
    from ._torch_objects import read_objects

    if not member.name.endswith(".pkl") or member.size > MAX_BYTES:
        return None
    try:
        storages, leaves = read_objects(PickleStream(data, member.start, member.end))
        found = list(leaves)
    except (FormatError, NotSplittable):
        return None
    return (storages, iter(found)) if storages else None
