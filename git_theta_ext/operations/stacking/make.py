"""Make a model of parts of other versions, in a new directory that is staged and written to the work tree."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from git_theta_ext.errors import MergeError, UsageError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.entries import EXECUTABLE, REGULAR, TreeEntry, update_index
from git_theta_ext.git.objects import write_blobs
from git_theta_ext.git.pathspecs import worktree_of
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
from git_theta_ext.operations.stacking.layouts import file_name, format_of, layout_of
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.records import dataclass, replace
from git_theta_ext.store.batches import Batches
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.rules.rules import Choice
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.operations.stacking.source import SourceModel
    from git_theta_ext.operations.workspace import Workspace


class Recipe(Protocol):
    """What a file says of a new model."""

    @property
    def command(self) -> str:
        """The command of git theta that makes the model."""

    @property
    def choice(self) -> Choice | None:
        """How the sides of the model are merged; None if it has one side."""

    def to_bytes(self) -> bytes:
        """Return a file that says the same."""


R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class NewModel(Generic[R]):
    """What a new model consists of.

    Attributes:
        recipe: What makes it, with commit ids.
        first: The model whose configuration, tokenizer and division into files it has.
        sides: Parameters that are merged by the method of the recipe, or the only ones.
        base: The parameters that the method takes as common ancestor; None if it needs none.
        config: Its ``config.json``; None if the first model has none.
        values: The values of parameters that no model has.
    """

    recipe: R
    first: SourceModel
    sides: tuple[Mapping[str, Parameter], ...]
    base: Mapping[str, Parameter] | None
    config: bytes | None
    values: tuple[tuple[TensorSpec, bytes], ...] = ()

    @property
    def record(self) -> str:
        """The file in its directory from which it can be made again."""
        return f"{self.recipe.command}.yml"

    @property
    def nbytes(self) -> int:
        """The size of its parameters in bytes."""
        return sum(parameter.spec.nbytes for parameter in self.sides[0].values())


def files_of_model(workspace: Workspace, model: NewModel[R], folder: str) -> dict[str, bytes]:
    """Return path and content of the files that a new model consists of, as git stores them.

    Args:
        workspace: The repository and its store, which gets layouts and merged tensors.
        model: What the model consists of.
        folder: The directory that it will be in, relative to the top.

    Raises:
        MergeError: Its sides cannot be merged.
        MissingError: A layout or a value that is merged is neither here nor on a remote.
        PluginError: The method violates its contract.
        StoreError: The store cannot be written.
    """
    made = Batches(workspace.store)
    for spec, data in model.values:
        made.add(spec, data)
    made.flush()
    version = _composed(workspace, model, folder)
    choice = model.recipe.choice
    if choice is None:
        contents = {path: manifest.to_bytes() for path, manifest in version.shards.items()}
        if version.index is not None and version.index_path is not None:
            contents[version.index_path] = version.index.to_bytes()
    else:
        contents = _merged(workspace, model, version, choice)
    if model.config is not None:
        contents[posixpath.join(folder, CONFIG)] = model.config
    return contents | {posixpath.join(folder, model.record): model.recipe.to_bytes()}


def stage_model(repo: Repository, model: NewModel[R], contents: Mapping[str, bytes], folder: str) -> bool:
    """Stage a new model, with the tokenizer and whatever else is beside the first model, and write it.

    Args:
        repo: The repository.
        model: What the model consists of.
        contents: Path and content of its files.
        folder: Its directory, relative to the top.

    Returns:
        False if the same files are staged in that directory already.

    Raises:
        UsageError: The directory has other files.
        RepositoryError: Git cannot write them.
    """
    beside = model.first.directory.at(folder)
    entries = [
        TreeEntry(path, beside.files[path], EXECUTABLE if path in beside.executable else REGULAR)
        for path in (posixpath.join(folder, posixpath.basename(source)) for source in model.first.copied)
    ]
    oids = write_blobs(repo, list(contents.values()))
    entries += [TreeEntry(path, oid, REGULAR) for path, oid in zip(contents, oids, strict=True)]
    staged = Directory.of(repo, None, folder).files
    if staged == {entry.path: entry.oid for entry in entries}:
        return False
    place = worktree_of(repo) / folder
    if staged or place.is_symlink() or (place.exists() and (not place.is_dir() or any(place.iterdir()))):
        raise UsageError(f"{repo.shown(folder)} has other files", hint="choose another name")
    update_index(repo.run, entries)
    repo.run("checkout", "--quiet", "--", f":(top,literal){folder}")
    return True


def check_tracked(repo: Repository, model: NewModel[R], folder: str) -> None:
    """Check whether git theta tracks the checkpoints of a new model.

    Raises:
        UsageError: It does not.
    """
    names = [posixpath.join(folder, name) for name in _names(model, 2)]
    if len(theta_paths(repo.run, names)) < len(names):
        pattern = posixpath.join(folder, f"*{posixpath.splitext(names[0])[1]}")
        raise UsageError(
            f"git theta does not track checkpoints in {repo.shown(folder)}",
            hint=f"{repo.git_at_top} theta track {shell_word(pattern)}",
        )


def _names(model: NewModel[R], count: int) -> list[str]:
    """Return the names of the files of a model in some files: one, or shards as Transformers names them."""
    shards = model.first.version.shards
    name = file_name(model.first.version, next(iter(shards)))
    if len(shards) == 1 and model.first.version.index is None:
        return [name]
    root, suffix = posixpath.splitext(model_name(name))
    return [f"{root}-{number:05}-of-{count:05}{suffix}" for number in range(1, count + 1)]


def _composed(workspace: Workspace, model: NewModel[R], folder: str) -> ModelVersion:
    """Return a version with the parameters of the first side, in files no larger than those of the first model."""
    version, sides = model.first.version, model.sides
    sharded = len(version.shards) > 1 or version.index is not None
    most = max(sum(p.spec.nbytes for p in shard.parameters.values()) for shard in version.shards.values())
    parts = in_files(sides[0], model.first.stack, most) if sharded else [dict(sides[0])]
    made_format = format_of(version)
    shards = {}
    for name, part in zip(_names(model, len(parts)), parts, strict=True):
        specs = {parameter: value.spec for parameter, value in part.items()}
        skeleton = layout_of(workspace, model.first, specs)
        if skeleton is None:
            raise MergeError(
                f"{model.first.name}: no layout for other parameters can be made",
                hint=f"git theta {model.recipe.command} -h",
            )
        shards[posixpath.join(folder, name)] = Manifest(made_format, skeleton, part)
    made = ModelVersion(shards)
    if version.index_path is None:
        return made
    path = posixpath.join(folder, file_name(version, version.index_path))
    return replace(made, index_path=path, index=index_of(version, made))


def _merged(workspace: Workspace, model: NewModel[R], version: ModelVersion, choice: Choice) -> dict[str, bytes]:
    """Return the files of the model whose parameters are those of the sides, merged."""
    if model.first.version.config is not None:
        raise MergeError(
            f"{model.first.name} is an adapter, which has no values of its own", hint="git merge merges it"
        )

    def with_values(values: Mapping[str, Parameter]) -> ModelVersion:
        shards = {
            path: replace(shard, parameters={name: values[name] for name in shard.parameters})
            for path, shard in version.shards.items()
        }
        return replace(version, shards=shards)

    base = None if model.base is None else with_values(model.base)
    name = posixpath.join(posixpath.dirname(next(iter(version.shards))), "model")
    versions = ModelVersions(name, base, tuple(map(with_values, model.sides)))
    before, sides = versions.manifests()
    planned = without_torch(plan(before, sides, Rules(choice), baseless=before is None, mixed=True))
    ensure_digests(workspace, set(planned.reads()))
    outcome = merge_model(workspace, versions, planned, (), label="merging")
    if outcome.conflicts:
        conflict = outcome.manifest.conflicts[0]
        raise MergeError(
            f"{conflict.name} cannot be merged by {choice.method}: {conflict.reason.text}",
            hint=f"git theta {model.recipe.command} -h",
        )
    for note in outcome.notes:
        workspace.reporter.note(note)
    return outcome.contents()
