"""Find the further names of tensors that have several, such as tied weights in files of torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import TiedFormat
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.records import replace
from git_theta_ext.registry import find_format
from git_theta_ext.store.skeletons import read_skeleton
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.model_version import ModelVersion
    from git_theta_ext.operations.workspace import Workspace

_MAX_TIMES = 100
"""The limit of the bytes under all names, in sizes of the file. A layer that a model repeats has a name each time."""


def with_all_names(workspace: Workspace, version: ModelVersion) -> ModelVersion:
    """Return a version in which each tensor has all the names that its file has for it.

    A manifest has one of them. The layouts that have the others are fetched if they are not here.

    Args:
        workspace: The repository and its store.
        version: The version.

    Raises:
        FormatError: A small file has names for so many tensors that reading all would take unexpected memory.
        ThetaError: A layout is neither here nor on a remote, or damaged.
    """
    formats = {path: find_format(version.in_files(path).format) for path in version.shards}
    tying = {path: found for path, found in formats.items() if isinstance(found, TiedFormat)}
    if not tying:
        return version
    ensure_digests(workspace, {version.shards[path].skeleton.digest for path in tying})
    shards = dict(version.shards)
    for path, found in tying.items():
        in_file = version.in_files(path)
        layout = read_skeleton(workspace.store, in_file.skeleton, parameters=len(in_file.parameters), path=path)
        tied = {name: in_file.parameters[same] for name, same in found.tied(layout).items()}
        further = {name: parameter for name, parameter in tied.items() if name not in version.places}
        if _nbytes(further) > _MAX_TIMES * _nbytes(in_file.parameters):
            raise FormatError(
                f"{shown_path(path)} has so many names for its tensors that they take over {_MAX_TIMES} times its size"
            )
        shards[path] = replace(shards[path], parameters={**shards[path].parameters, **further})
    return replace(version, shards=shards, files=version.files or version.shards)


def _nbytes(parameters: Mapping[str, Parameter]) -> int:
    return sum(parameter.spec.nbytes for parameter in parameters.values())
