"""How far commits moved parameters, which takes reading their values."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_theta_ext.comparison.changes import ModelChange
from git_theta_ext.comparison.models import compare_models
from git_theta_ext.git.objects import read_manifests
from git_theta_ext.model.model_version import ModelVersion, renamed
from git_theta_ext.model.tensor_pieces import tensor_of
from git_theta_ext.operations.diff.measuring import measure_modified
from git_theta_ext.operations.history.indexed_names import named
from git_theta_ext.records import replace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from git_theta_ext.model.manifest import Manifest, Parameter
    from git_theta_ext.model.model_index import ModelIndex
    from git_theta_ext.operations.history.changes import ChangedModel
    from git_theta_ext.operations.workspace import Workspace


class StoredValues:
    """The values of a version in history: all that there are are in the store."""

    def values(self, name: str, parameter: Parameter) -> Iterator[memoryview] | None:  # noqa: ARG002 - as the protocol has it
        """Return None; see ``git_theta_ext.operations.diff.sides.Values``."""
        return None


def measured(workspace: Workspace, model: ChangedModel) -> ModelChange:
    """Return the modified parameters of a model with their distances from the first parent.

    Raises:
        ManifestError: A manifest is broken.
    """
    paths = {oid: file.path for file in model.files for oid in (file.new, *file.old) if oid}
    manifests = read_manifests(workspace.repo, paths)
    names = set(model.names.modified)
    before, after = {}, {}
    for file in model.files:
        old = next((oid for oid in file.old if oid in manifests), None)
        if old is not None:
            before[file.old_path] = _chosen(file.old_path, manifests[old], model.indexes and model.indexes[0], names)
        if file.new in manifests:
            after[file.path] = _chosen(file.path, manifests[file.new], model.indexes and model.indexes[1], names)
    return measure_versions(workspace, model.path, *_apart(before, after))


def _chosen(path: str, manifest: Manifest, index: ModelIndex | None, names: Collection[str]) -> Manifest:
    """Return a manifest with the parameters that have a name, or with the pieces of tensors if an index names these."""
    if index is None:
        return only(manifest, names)
    manifest = named(path, manifest, index)
    return only(manifest, {name for name in manifest.parameters if tensor_of(name) in names})


def _apart(*versions: Mapping[str, Manifest]) -> Iterator[Mapping[str, Manifest]]:
    """Yield versions in which no two files have a parameter of the same name.

    Files of torch.distributed number their tensors, and have no names for them.
    """
    every = [[name for manifest in version.values() for name in manifest.parameters] for version in versions]
    unique = all(len(set(names)) == len(names) for names in every)
    for version in versions:
        names = {
            path: {name: name if unique else f"{posixpath.basename(path)}:{name}" for name in manifest.parameters}
            for path, manifest in version.items()
        }
        yield {path: renamed(manifest, names[path]) for path, manifest in version.items()}


def measure_versions(
    workspace: Workspace, path: str, before: Mapping[str, Manifest], after: Mapping[str, Manifest]
) -> ModelChange:
    """Compare two versions of a model, with the distances of all parameters whose values are in the store.

    Args:
        workspace: The repository and its store.
        path: The model's path.
        before: Path to manifest of each file of the older version.
        after: The same of the newer version.
    """
    diff = compare_models(ModelVersion(before) if before else None, ModelVersion(after) if after else None)
    stored = StoredValues()
    distances, notes = measure_modified(workspace, diff, stored, stored)
    return ModelChange(path, diff, distances, notes=notes)


def only(manifest: Manifest, names: Collection[str]) -> Manifest:
    """Return a manifest with some of its parameters."""
    return replace(manifest, parameters={name: value for name, value in manifest.parameters.items() if name in names})
