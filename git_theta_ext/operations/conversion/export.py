"""Write parameters of a version in another format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from git_theta_ext.errors import ManifestError
from git_theta_ext.operations.conversion.output import writing
from git_theta_ext.operations.conversion.sources import refuse_format, refuse_parts
from git_theta_ext.operations.conversion.tensors import StoredTensors
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.registry import find_format
from git_theta_ext.store.skeletons import read_skeleton

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from git_theta_ext.model.model_version import ModelVersion
    from git_theta_ext.operations.conversion.targets import Target
    from git_theta_ext.operations.workspace import Workspace

_SAFETENSORS = "safetensors"
_TORCH = frozenset({"torch_legacy", "torch_zip"})


def export_parameters(  # noqa: PLR0913 - named
    workspace: Workspace, version: ModelVersion, names: Sequence[str], target: Target, path: Path, *, label: str
) -> None:
    """Write parameters of a version in another format, and fetch what is missing.

    Args:
        workspace: The repository and its store.
        version: The version.
        names: Its parameters that are written.
        target: The format.
        path: The file to replace, or the directory to create.
        label: Name of the version in messages.

    Raises:
        FormatError: A parameter cannot be written without a loss, or is not a tensor of the model.
        ManifestError: The version has conflicts.
        MissingError: A tensor is neither here nor on a remote.
        CorruptError: A stored tensor is damaged.
        LibraryError: A library that the format takes is not installed.
        StoreError: The output cannot be written.
    """
    refuse_format(version, label)
    if any(shard.conflicted for shard in version.shards.values()):
        raise ManifestError(f"{label} has conflicts", hint="git theta resolve")
    joined = {name: tensor for name, tensor in version.joined.items() if name in names}
    parameters = {name: version.parameters[name] for name in names if name not in joined}
    specs = {name: version.specs[name] for name in names}
    target.check(specs)
    if (note := target.note(specs)) is not None:
        workspace.reporter.warning(note)
    ensure_digests(workspace, {shard.skeleton.digest for shard in version.shards.values()})
    refuse_parts(workspace.store, version, specs.keys(), label)
    with workspace.reporter.progress("fetching", 0) as advance:
        pieces = {digest for tensor in joined.values() for digest in tensor.digests}
        ensure_digests(workspace, pieces | {parameter.digest for parameter in parameters.values()}, advance)
    metadata = _metadata(workspace, version)
    total = sum(spec.nbytes for spec in specs.values())
    with workspace.reporter.progress("writing", total) as advance, writing(target, path) as output:
        target.write(output, StoredTensors(workspace.store, parameters, advance, joined), metadata)


def _metadata(workspace: Workspace, version: ModelVersion) -> dict[str, str]:
    """Return the texts that a file of safetensors with the parameters has: those of the file that they come from."""
    if version.format in _TORCH:
        return {"format": "pt"}
    if version.format != _SAFETENSORS:
        return {}
    manifest = next(iter(version.shards.values()))
    layout = read_skeleton(workspace.store, manifest.skeleton, parameters=len(manifest.parameters))
    facts = find_format(_SAFETENSORS).facts(layout)
    texts = {key: json.loads(value) for key, value in facts.items() if value.startswith(b'"')}
    return {key: text for key, text in texts.items() if isinstance(text, str)}
