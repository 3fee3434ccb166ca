"""Report units whose parts git took from different sides.

Git takes a file that only one side changed without calling the merge driver. If the parts of a quantised weight or of a
LoRA are in two files, of which each side changed another one, the merged model has the parts of both sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.git.operation import merged_commits
from git_theta_ext.git.revisions import parents_of
from git_theta_ext.merging.planning.units import units_of
from git_theta_ext.model.shards import is_text, model_name
from git_theta_ext.operations.merge.merged_trees import trees_of_merge
from git_theta_ext.operations.merge.model_directories import directories_at
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.model_versions import ModelVersions
    from git_theta_ext.operations.merge.merged_trees import MergedTrees
    from git_theta_ext.operations.merge.model_directories import MergedDirectories
    from git_theta_ext.operations.workspace import Workspace

_TWO = 2


def warn_of_divided(workspace: Workspace, written: Iterable[str]) -> None:
    """Report units of models that have parts of both sides after a merge of two branches.

    Args:
        workspace: The repository and its store.
        written: Paths of checkpoints that git wrote.

    Raises:
        ThetaError: A version is broken, or git cannot read a commit.
    """
    repo = workspace.repo
    heads = _heads(repo) if any(model_name(path) != path for path in written) else []
    trees = next(trees_of_merge(repo, heads), None)
    for directories, names in divided_models(repo, trees) if trees is not None and len(heads) == _TWO else ():
        workspace.reporter.warning(
            f"{shown_path(directories.name)}: {shortlist(map(shown_path, names))} has parts of both sides, "
            "as git took each file from the side that changed it; to merge the model as one:",
            f"git reset --merge ORIG_HEAD && git merge -s theta {heads[1][:12]}",
        )


def divided_models(repo: Repository, trees: MergedTrees) -> Iterator[tuple[MergedDirectories, list[str]]]:
    """Yield the models of several files with units of which git takes parts from both sides, and these units.

    Args:
        repo: The repository.
        trees: The two commits that are merged, and their common ancestor.

    Raises:
        ThetaError: A version is broken, or git cannot read a commit.
    """
    if trees.base is None:
        return
    changed = [_changed(repo, trees.base, side) for side in trees.sides]
    for name in changed[0].keys() & changed[1].keys():
        if changed[0][name].isdisjoint(changed[1][name]):  # else git calls the driver, which merges the whole model
            directories = directories_at(repo, trees, min(changed[0][name]))
            versions = directories.versions()
            if versions is not None and versions.base is not None and (names := divided_units(versions)):
                yield directories, names


def _changed(repo: Repository, before: str, after: str) -> dict[str, set[str]]:
    """Return the shards that differ between two commits, by model."""
    models: dict[str, set[str]] = {}
    text = repo.run("diff-tree", "-r", "-z", "--name-only", before, after).decode(errors="surrogateescape")
    for path in text.split("\0")[:-1]:
        if model_name(path) != path and not is_text(path):
            models.setdefault(model_name(path), set()).add(path)
    return models


def _heads(repo: Repository) -> list[str]:
    """Return the commits that git merges; when it has written all files, it may have committed the merge."""
    heads = merged_commits(repo)
    parents = parents_of(repo, heads[0]) if len(heads) == _TWO else []
    return parents if len(parents) == _TWO and parents[1] == heads[1] else heads


def divided_units(versions: ModelVersions) -> list[str]:
    """Return the names of the units that both sides changed differently, in whatever parts."""
    assert versions.base is not None
    base, ours, theirs = (version.parameters for version in (versions.base, *versions.sides))
    names = dict.fromkeys([*base, *ours, *theirs])
    specs = {name: [p.spec if (p := side.get(name)) else None for side in (base, ours, theirs)] for name in names}

    def differs(one: Mapping[str, object], other: Mapping[str, object], members: Iterable[str]) -> bool:
        return any(one.get(name) != other.get(name) for name in members)

    return [
        unit.name
        for unit in units_of(specs)
        if differs(base, ours, unit.members)
        and differs(base, theirs, unit.members)
        and differs(ours, theirs, unit.members)
    ]
