"""Merge a model of several files, of which git gives a merge driver one at a time.

If git takes a file from one side without calling the driver, and the merged model has it otherwise, git's merge cannot
end with the merged model.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.errors import ThetaError
from git_theta_ext.git.merge_tree import PLACEHOLDER, predict
from git_theta_ext.git.objects import blob_id
from git_theta_ext.merging.models import apply_model
from git_theta_ext.merging.record import Record
from git_theta_ext.model.shards import is_text
from git_theta_ext.operations.merge.adapter_scales import files_of
from git_theta_ext.operations.merge.computation import execute
from git_theta_ext.operations.merge.model_directories import MergedModel
from git_theta_ext.operations.merge.planning import plan_checkpoint, without_torch
from git_theta_ext.operations.models import Directory
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.records import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.model_versions import ModelVersions
    from git_theta_ext.merging.models import ModelOutcome
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.merging.rules.rules import Rules
    from git_theta_ext.operations.merge.model_directories import MergedDirectories
    from git_theta_ext.operations.workspace import Workspace


def plan_model(workspace: Workspace, versions: ModelVersions, rules: Rules) -> Plan:
    """Plan the merge of a model; see ``git_theta_ext.operations.merge.planning.plan_checkpoint``."""
    base, sides = versions.manifests()
    return without_torch(plan_checkpoint(workspace, base, sides, rules, mixed=True))


def merge_model(  # noqa: PLR0913 - named, and the last one has a default
    workspace: Workspace,
    versions: ModelVersions,
    plan: Plan,
    commits: Sequence[str],
    *,
    label: str,
    meanwhile: Callable[[Callable[[], ModelOutcome]], AbstractContextManager[None]] | None = None,
) -> ModelOutcome:
    """Merge a model.

    Args:
        workspace: The repository and its store.
        versions: Its versions.
        plan: The plan.
        commits: The commit of each side, as far as it is known.
        label: What the progress is labelled with.
        meanwhile: Entered while values are computed, with a function that returns the result if they are not.

    Raises:
        ThetaError: See ``git_theta_ext.merging.apply.apply``.
    """
    ensure_digests(workspace, set(versions.skeletons()))
    paths = [versions.name, *sorted(versions.paths())]
    apply = partial(apply_model, versions)
    adapters = files_of(versions)
    return execute(workspace, plan, paths, commits, apply, label=label, meanwhile=meanwhile, adapters=adapters)


def merged_files(repo: Repository, directories: MergedDirectories, outcome: ModelOutcome) -> MergedModel:
    """Return the files of a merged model, and whether git's merge ends with them."""
    contents = outcome.contents()
    before = {path for directory in directories.every() for path in directories.files(directory)}
    removed = tuple(sorted((before - set(contents)) | directories.old_paths(before)))
    merged = MergedModel(directories.name, contents, removed)
    return replace(merged, by_git=_ends_with(repo, directories, merged))


def record_of(
    directories: MergedDirectories,
    commits: Sequence[str],
    rules: Rules,
    plan: Plan,
    outcome: ModelOutcome,
) -> Record | None:
    """Return the record of a merge: the versions are those of the directory, that is, trees."""
    trees = [directories.trees.base, *directories.trees.sides]
    ids = [None if rev is None else directories.tree(rev) for rev in trees]
    return Record.of(directories.name, ids, commits, rules, plan, outcome.unread)


def _ends_with(repo: Repository, directories: MergedDirectories, merged: MergedModel) -> bool:
    """Return whether git's merge ends with some files if the driver returns those that it is called for."""
    trees = directories.trees
    wanted = {path: blob_id(content, repo.object_format) for path, content in merged.contents.items()}
    wanted_or_gone = {**dict.fromkeys(merged.removed, ""), **wanted}
    versions = [directories.files(directory) for directory in (directories.base, *directories.sides)]
    renamed = directories.folder != directories.old_folder
    if (
        not renamed
        and all(version.keys() == wanted.keys() for version in versions)
        and all(
            _ends_simply_with(oid, *(version[path] for version in versions), driver=not is_text(path))
            for path, oid in wanted.items()
        )
    ):
        return True
    try:
        combined = predict(repo, trees.base, *trees.sides)
    except ThetaError:
        return False
    folders = {directories.folder, directories.old_folder}
    found = {p: oid for folder in folders for p, oid in Directory.of(repo, combined.tree, folder).files.items()}
    called = blob_id(PLACEHOLDER, repo.object_format)
    conflicted = {entry.path for entry in combined.stages}
    return conflicted.isdisjoint(wanted_or_gone) and all(
        found.get(path, "") in {oid, called if oid else ""} for path, oid in wanted_or_gone.items()
    )


def _ends_simply_with(wanted: str, base: str, ours: str, theirs: str, *, driver: bool) -> bool:
    """Return whether git takes the wanted version of a file, or calls the driver for it."""
    if len({base, ours, theirs}) == 3:  # noqa: PLR2004 - both sides changed it
        return driver
    return wanted == (theirs if base == ours else ours)
