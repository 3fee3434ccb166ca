"""Compare external data, such as ``model.onnx.data``, by the tensors in it, as a part of the model that names them."""

from __future__ import annotations

import posixpath
from contextlib import suppress
from dataclasses import dataclass
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
from git_theta_ext.operations.diff.sides import Side
from git_theta_ext.store.skeletons import read_skeleton

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.checkpoint.external_data import Known
    from git_theta_ext.model.external_tensor import ExternalTensor
    from git_theta_ext.model.layout import Layout
    from git_theta_ext.model.manifest import Manifest, Parameter
    from git_theta_ext.operations.diff.trees import Tree
    from git_theta_ext.store.store import Store


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


def join_external_data(store: Store, old: Tree, new: Tree) -> None:
    """Name the tensors of external data that differs, in both trees; what cannot be read is compared by its chunks."""
    same = {
        path
        for path in old.checkpoints.keys() & new.checkpoints.keys()
        if old.checkpoints[path].manifest == new.checkpoints[path].manifest
    }
    known: Known = {}
    before, after = (dict(_joined(store, tree, same, known)) for tree in (old, new))
    for tree, sides, other, others in ((old, before, new, after), (new, after, old, before)):
        for path, (owner, side) in sides.items():
            if path in others or path not in other.checkpoints:
                tree.checkpoints[path] = side
                tree.models[path] = posixpath.basename(owner)


def _joined(store: Store, tree: Tree, same: set[str], known: Known) -> Iterator[tuple[str, tuple[str, Side]]]:
    """Yield the path of each file that differs, the path of the file that names its tensors, and its version."""
    for owner, side in sorted(tree.checkpoints.items()):
        if side.manifest is None or not has_external_data(side.manifest.format):
            continue
        with suppress(ThetaError):
            for file, tensors in external_tensors(side.manifest, _layout(store, side, side.manifest)).items():
                path = posixpath.join(posixpath.dirname(owner), file)
                data = tree.checkpoints.get(path)
                if data is not None and data.manifest is not None and is_in_chunks(data.manifest) and path not in same:
                    yield path, (owner, _side(store, data, data.manifest, tensors, side.manifest.format, known))


def _layout(store: Store, side: Side, manifest: Manifest) -> Layout:
    if store.touch_and_find_missing({manifest.skeleton.digest}) and side.file is not None:
        return layout_of(side.file.data, side.file.scan.fields, lambda *_: 0)
    return read_skeleton(store, manifest.skeleton, parameters=len(manifest.parameters))


def _side(  # noqa: PLR0913, PLR0917 - what a side is made of
    store: Store, data: Side, manifest: Manifest, tensors: list[ExternalTensor], format_name: str, known: Known
) -> Side:
    absent = store.touch_and_find_missing(chunk.digest for chunk in manifest.parameters.values())

    def read(name: str, chunk: Parameter) -> memoryview:
        if chunk.digest not in absent:
            return memoryview(store.read(chunk.digest, chunk.spec))
        values = data.values(name, chunk)
        if values is None:
            raise MissingError(f"{name} is not in this repository", hint="git theta checkout")
        return memoryview(b"".join(values))

    external = ExternalFile.of(StoredChunks(manifest, read), tensors)
    return ExternalSide(external.manifest(format_name, known), external=external)
