"""Compare external data, such as ``model.onnx.data``, by the tensors in it, as a part of the model that names them."""

from __future__ import annotations

import posixpath
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.external_data import (
    ExternalFile,
    StoredChunks,
    external_tensors,
    has_external_data,
    is_in_chunks,
)
from git_theta_ext.errors import MissingError, ThetaError
from git_theta_ext.model.layout import layout_of
from git_theta_ext.model.manifest import Parameter
from git_theta_ext.model.tensor import Digest
from git_theta_ext.operations.diff.sides import Side
from git_theta_ext.records import dataclass
from git_theta_ext.store.skeletons import read_skeleton

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.model.external_tensor import ExternalTensor
    from git_theta_ext.model.layout import Layout
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.diff.trees import Tree
    from git_theta_ext.store.store import Store

_UNCHANGED = Digest("0" * 64)
"""The digest of a tensor that both versions have, which is not computed."""


@dataclass(frozen=True)
class ExternalSide(Side):
    """One version of a file whose tensors another file names.

    Attributes:
        external: The file.
    """

    external: ExternalFile | None = None

    def values(self, name: str, parameter: Parameter) -> Iterator[memoryview] | None:  # noqa: ARG002 - see ``Values``
        """Return a tensor's bytes."""
        return None if self.external is None else self.external.chunks(name)


@dataclass(frozen=True)
class _Found:
    """A file whose tensors another file names: which file that is, and its format."""

    owner: str
    format: str
    file: ExternalFile


def join_external_data(store: Store, old: Tree, new: Tree) -> None:
    """Name the tensors of external data that differs, in both trees; what cannot be read is compared by its chunks.

    Tensors that are made of the same chunks in both versions are not read.
    """
    same = {
        path
        for path in old.checkpoints.keys() & new.checkpoints.keys()
        if old.checkpoints[path].manifest == new.checkpoints[path].manifest
    }
    found = dict(_found(store, old, same)), dict(_found(store, new, same))
    sides = [dict(_sides(one, other)) for one, other in (found, found[::-1])]
    for number, (tree, other) in enumerate(((old, new), (new, old))):
        for path, side in sides[number].items():
            if path in sides[1 - number] or path not in other.checkpoints:
                tree.checkpoints[path] = side
                tree.models[path] = posixpath.basename(found[number][path].owner)


def _sides(found: Mapping[str, _Found], other: Mapping[str, _Found]) -> Iterator[tuple[str, Side]]:
    """Yield the path and the version of each file that can be read."""
    for path, one in found.items():
        keys = one.file.keys
        others = other[path].file.keys if path in other else {}
        differ = {name for name in {*keys, *others} if keys.get(name) != others.get(name)}
        # A tensor that differs may be a copy of one that does not, and both need their digest then.
        read = {both[name] for both in (keys, others) for name in differ & both.keys()}
        specs = {key: one.file.extents[name].spec for name, key in keys.items() if name not in differ}
        known = {key: Parameter(spec, _UNCHANGED) for key, spec in specs.items() if key not in read}
        with suppress(ThetaError):
            yield path, ExternalSide(one.file.manifest(one.format, known), external=one.file)


def _found(store: Store, tree: Tree, same: set[str]) -> Iterator[tuple[str, _Found]]:
    """Yield the path of each file that differs, and its tensors."""
    for owner, side in sorted(tree.checkpoints.items()):
        if side.manifest is None or not has_external_data(side.manifest.format):
            continue
        with suppress(ThetaError):
            for file, tensors in external_tensors(side.manifest, _layout(store, side, side.manifest)).items():
                path = posixpath.join(posixpath.dirname(owner), file)
                data = tree.checkpoints.get(path)
                if data is not None and data.manifest is not None and is_in_chunks(data.manifest) and path not in same:
                    yield path, _Found(owner, side.manifest.format, _file(store, data, data.manifest, tensors))


def _layout(store: Store, side: Side, manifest: Manifest) -> Layout:
    if store.touch_and_find_missing({manifest.skeleton.digest}) and side.file is not None:
        return layout_of(side.file.data, side.file.scan.fields, lambda *_: 0)
    return read_skeleton(store, manifest.skeleton, parameters=len(manifest.parameters))


def _file(store: Store, data: Side, manifest: Manifest, tensors: list[ExternalTensor]) -> ExternalFile:
    absent = store.touch_and_find_missing(chunk.digest for chunk in manifest.parameters.values())

    def read(name: str, chunk: Parameter) -> memoryview:
        if chunk.digest not in absent:
            return memoryview(store.read(chunk.digest, chunk.spec))
        values = data.values(name, chunk)
        if values is None:
            raise MissingError(f"{name} is not in this repository", hint="git theta checkout")
        return memoryview(b"".join(values))

    return ExternalFile.of(StoredChunks(manifest, read), tensors)
