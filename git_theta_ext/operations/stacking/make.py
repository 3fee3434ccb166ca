"""Make a model of the layers of other versions, in a new directory that is staged and written to the work tree."""

from __future__ import annotations

import posixpath
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError, UsageError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.entries import EXECUTABLE, REGULAR, TreeEntry, update_index
from git_theta_ext.git.objects import write_blobs
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.merging.apply import compose
from git_theta_ext.merging.model_versions import ModelVersions
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.merging.stacking.config import CONFIG
from git_theta_ext.merging.stacking.layers import in_files
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.model.model_version import ModelVersion, index_of
from git_theta_ext.model.shards import model_name
from git_theta_ext.operations.merge.model_merge import merge_model
from git_theta_ext.operations.merge.planning import without_torch
from git_theta_ext.operations.models import Directory
from git_theta_ext.operations.stacking.models import RECORD
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.records import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.rules.rules import Choice
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.operations.stacking.models import StackedModel
    from git_theta_ext.operations.workspace import Workspace


def files_of_stack(workspace: Workspace, stack: StackedModel, folder: str) -> dict[str, bytes]:
    """Return path and content of the files that a stacked model consists of, as git stores them.

    Args:
        workspace: The repository and its store, which gets layouts and merged tensors.
        stack: What the model consists of.
        folder: The directory that it will be in, relative to the top.

    Raises:
        MergeError: The sources of a slice cannot be merged.
        MissingError: A layout or a value that is merged is neither here nor on a remote.
        PluginError: The method violates its contract.
        StoreError: The store cannot be written.
    """
    version = _composed(workspace, stack, folder)
    choice = stack.slices.choice
    if choice is None:
        contents = {path: manifest.to_bytes() for path, manifest in version.shards.items()}
        if version.index is not None and version.index_path is not None:
            contents[version.index_path] = version.index.to_bytes()
    else:
        contents = _merged(workspace, stack, version, choice)
    if stack.config is not None:
        contents[posixpath.join(folder, CONFIG)] = stack.config
    return contents | {posixpath.join(folder, RECORD): stack.slices.to_bytes()}


def stage_stack(repo: Repository, stack: StackedModel, contents: Mapping[str, bytes], folder: str) -> bool:
    """Stage a stacked model, with the tokenizer and whatever else is beside the first model, and write it.

    Args:
        repo: The repository.
        stack: What the model consists of.
        contents: Path and content of its files.
        folder: Its directory, relative to the top.

    Returns:
        False if the same files are staged in that directory already.

    Raises:
        UsageError: The directory has other files.
        RepositoryError: Git cannot write them.
    """
    beside = stack.first.directory.at(folder)
    entries = [
        TreeEntry(path, beside.files[path], EXECUTABLE if path in beside.executable else REGULAR)
        for path in (posixpath.join(folder, posixpath.basename(source)) for source in stack.first.copied)
    ]
    oids = write_blobs(repo, list(contents.values()))
    entries += [TreeEntry(path, oid, REGULAR) for path, oid in zip(contents, oids, strict=True)]
    staged = Directory.of(repo, None, folder).files
    if staged == {entry.path: entry.oid for entry in entries}:
        return False
    place = worktree_of(repo) / folder
    if staged or place.is_symlink() or (place.exists() and (not place.is_dir() or any(place.iterdir()))):
        raise UsageError(f"{repo.relative(folder)} has other files", hint="choose another name")
    update_index(repo.run, entries)
    repo.run("checkout", "--quiet", "--", f":(top,literal){folder}")
    return True


def check_tracked(repo: Repository, stack: StackedModel, folder: str) -> None:
    """Check whether git theta tracks the checkpoints of a stacked model.

    Raises:
        UsageError: It does not.
    """
    names = [posixpath.join(folder, name) for name in _names(stack, 2)]
    if len(theta_paths(repo.run, names)) < len(names):
        pattern = posixpath.join(folder, f"*{posixpath.splitext(names[0])[1]}")
        raise UsageError(
            f"git theta does not track checkpoints in {repo.relative(folder)}",
            hint=f"{repo.git_at_top} theta track {quote(pattern)}",
        )


def _names(stack: StackedModel, count: int) -> list[str]:
    """Return the names of the files of a model in some files: one, or shards as Transformers names them."""
    shards = stack.first.version.shards
    name = posixpath.basename(next(iter(shards)))
    if len(shards) == 1 and stack.first.version.index is None:
        return [name]
    root, suffix = posixpath.splitext(model_name(name))
    return [f"{root}-{number:05}-of-{count:05}{suffix}" for number in range(1, count + 1)]


def _composed(workspace: Workspace, stack: StackedModel, folder: str) -> ModelVersion:
    """Return a version with the parameters of the first side, in files no larger than those of the first model."""
    version, sides = stack.first.version, stack.sides
    sharded = len(version.shards) > 1 or version.index is not None
    most = max(sum(p.spec.nbytes for p in shard.parameters.values()) for shard in version.shards.values())
    parts = in_files(sides[0], stack.first.stack, most) if sharded else [dict(sides[0])]
    before = next(iter(version.shards.values()))
    ensure_digests(workspace, {before.skeleton.digest})
    shards = {}
    for name, part in zip(_names(stack, len(parts)), parts, strict=True):
        specs = {parameter: value.spec for parameter, value in part.items()}
        skeleton = compose(before.format, before.skeleton, specs, workspace.store)
        if skeleton is None:
            raise MergeError(f"{stack.first.name}: no layout for other layers can be made", hint="git theta stack -h")
        shards[posixpath.join(folder, name)] = Manifest(before.format, skeleton, part)
    made = ModelVersion(shards)
    if version.index_path is None:
        return made
    path = posixpath.join(folder, posixpath.basename(version.index_path))
    return replace(made, index_path=path, index=index_of(version, made))


def _merged(workspace: Workspace, stack: StackedModel, version: ModelVersion, choice: Choice) -> dict[str, bytes]:
    """Return the files of the model whose parameters are those of the sides, merged."""
    if stack.first.version.config is not None:
        raise MergeError(
            f"{stack.first.name} is an adapter, which has no values of its own", hint="git merge merges it"
        )

    def with_values(values: Mapping[str, Parameter]) -> ModelVersion:
        shards = {
            path: replace(shard, parameters={name: values[name] for name in shard.parameters})
            for path, shard in version.shards.items()
        }
        return replace(version, shards=shards)

    base = None if stack.base is None else with_values(stack.base)
    name = posixpath.join(posixpath.dirname(next(iter(version.shards))), "model")
    versions = ModelVersions(name, base, tuple(map(with_values, stack.sides)))
    before, sides = versions.manifests()
    planned = without_torch(plan(before, sides, Rules(choice), baseless=before is None, mixed=True))
    ensure_digests(workspace, set(planned.reads()))
    outcome = merge_model(workspace, versions, planned, (), label="merging")
    if outcome.conflicts:
        conflict = outcome.manifest.conflicts[0]
        raise MergeError(
            f"{conflict.name} cannot be merged by {choice.method}: {conflict.reason.text}", hint="git theta stack -h"
        )
    for note in outcome.notes:
        workspace.reporter.note(note)
    return outcome.contents()
