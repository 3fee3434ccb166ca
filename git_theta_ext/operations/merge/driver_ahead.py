"""Merge the other checkpoints of a merge when git calls the driver for the first one.

Each call of the driver would start Python and import torch for one file. The answers are kept for git's later calls.
Wherever it is not certain which files git will merge, each call merges its own file.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import StoreError, ThetaError
from git_theta_ext.git.changed_paths import changed_by_both
from git_theta_ext.git.objects import object_infos, read_objects
from git_theta_ext.git.operation import FROM_INDEX
from git_theta_ext.git.path_attributes import merged_by_driver
from git_theta_ext.git.revisions import merge_bases
from git_theta_ext.model.manifest import MAX_MANIFEST, is_manifest
from git_theta_ext.operations.merge.checkpoint_driver import answers_of, merge_call, plan_call
from git_theta_ext.operations.merge.driver_call import KeptAnswers
from git_theta_ext.operations.merge.merged_trees import candidate_trees
from git_theta_ext.operations.merge.model_driver import answer_model
from git_theta_ext.util.files import replace_content
from git_theta_ext.util.threads import batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.merge.checkpoint_driver import MergedCall, PlannedCall
    from git_theta_ext.operations.merge.driver_call import Answer, DriverCall
    from git_theta_ext.operations.merge.merged_trees import MergedTrees
    from git_theta_ext.operations.workspace import Workspace

TOGETHER = 1 << 24
"""Bytes that are read for merges whose values are held in memory, and whose results share packs."""


def answer_ahead(workspace: Workspace, call: DriverCall) -> dict[str, Answer]:
    """Merge the other checkpoints that both sides changed, and keep the answers to git's calls for them.

    A file that cannot be merged is left to its own call, which reports why.

    Args:
        workspace: The repository and its store.
        call: The call that git made, and that is answered.

    Returns:
        The answers for checkpoints that are models by themselves, by path.

    Raises:
        RepositoryError: Git cannot read its objects.
    """
    merged: dict[str, Answer] = {}
    repo, answers = workspace.repo, KeptAnswers.of(workspace.repo)
    trees = None if answers is None else _merged_trees(repo, call)
    if answers is None or trees is None:
        return merged
    others = _others(repo, call, trees)
    if not others or not _is_first(repo, answers, trees):
        return merged
    for planned in batches(_planned(workspace, call, others, answers), _bytes_to_read, TOGETHER):
        if not _merge(workspace, planned, answers, merged):
            break
    return merged


def _planned(
    workspace: Workspace, call: DriverCall, others: Mapping[str, Sequence[str | None]], answers: KeptAnswers
) -> Iterator[PlannedCall]:
    """Yield the merges of other files, except those of models of several files: the answers for these are kept."""
    for path, versions in others.items():
        # The answers for all files of a model of several files are kept when its first file is merged.
        if answers.has(path):
            continue
        try:
            if (other := _call(workspace.repo, call, path, versions)) is None:
                continue
            if (answer := answer_model(workspace, other)) is not None:
                answers.keep(other, answer)
                continue
            planned = plan_call(workspace, other)
        except StoreError:
            return  # the next file would not be stored either
        except ThetaError:
            continue
        except Exception:  # noqa: BLE001 - such as too little memory: the file's own call reports it
            return
        yield planned


def _merge(
    workspace: Workspace, planned: Sequence[PlannedCall], answers: KeptAnswers, given: dict[str, Answer]
) -> bool:
    """Merge checkpoints, and keep the answers when the results are durable; return whether to go on with others."""
    merged: list[MergedCall] = []
    stopped = False
    # Jobs read and write the store themselves.
    together = workspace.settings.cluster is None and sum(map(_bytes_to_read, planned)) <= TOGETHER
    values = {digest: spec for one in planned for digest, spec in one.values.items()}
    try:
        with workspace.store.holding(values) if together else nullcontext():
            try:
                for one in planned:
                    merged += filter(None, [_merged(workspace, one)])
            except Exception:  # noqa: BLE001 - a full disk, or too little memory: the file's own call reports it
                stopped = True
    except Exception:  # noqa: BLE001 - likewise
        return False
    for done, answer in zip(merged, answers_of(workspace, merged), strict=True):
        answers.keep(done.planned.call, answer)
        given[done.planned.call.path] = answer
    return not stopped


def _merged(workspace: Workspace, planned: PlannedCall) -> MergedCall | None:
    """Merge a checkpoint; None if that fails for a reason that does not concern the next one."""
    try:
        return merge_call(workspace, planned)
    except StoreError:
        raise
    except ThetaError:
        return None


def _bytes_to_read(planned: PlannedCall) -> int:
    return sum(spec.nbytes for spec in planned.values.values())


def _merged_trees(repo: Repository, call: DriverCall) -> MergedTrees | None:
    """Return what git merges; None if there are several candidates, or none."""
    if call.operation.name in FROM_INDEX:
        return None
    if call.operation.kind == "merge" and len(merge_bases(repo, call.heads)) != 1:
        return None
    oids = call.oids(repo.object_format)
    found = {trees for trees in candidate_trees(repo, call.heads, call.operation) if _oids(repo, trees, call) == oids}
    return found.pop() if len(found) == 1 else None


def _oids(repo: Repository, trees: MergedTrees, call: DriverCall) -> list[str | None]:
    entries = [None if tree is None else repo.entry(tree, call.path) for tree in (trees.base, *trees.sides)]
    return [None if entry is None else entry.oid for entry in entries]


def _is_first(repo: Repository, answers: KeptAnswers, trees: MergedTrees) -> bool:
    """Return whether this is the first call of a merge; a call that is killed does not let the next one try again."""
    note = f"{answers.git} {trees.base} {' '.join(trees.sides)}\n".encode()
    file = repo.git_dir / "theta" / "merging" / "ahead"
    with suppress(OSError):
        if not file.exists() or file.read_bytes() != note:
            replace_content(file, note)
            return True
    return False


def _others(repo: Repository, call: DriverCall, trees: MergedTrees) -> dict[str, tuple[str | None, ...]]:
    """Return the object ids of the versions of the other files for which git runs our driver; not of renamed ones."""
    if trees.base is None:
        return {}
    both = dict(changed_by_both(repo, trees.base, *trees.sides))
    both.pop(call.path, None)
    return {path: both[path] for path in merged_by_driver(repo.run, both)}


def _call(repo: Repository, call: DriverCall, path: str, versions: Sequence[str | None]) -> DriverCall | None:
    """Return git's call of the driver for another file; None if a version of it is not a manifest."""
    oids = [oid for oid in versions if oid is not None]
    infos = object_infos(repo, oids)
    if not all(oid in infos and infos[oid].nbytes <= MAX_MANIFEST for oid in oids):
        return None
    stored = dict(read_objects(repo, oids))
    if not all(map(is_manifest, stored.values())):
        return None
    return call.to_merge(path, [b"" if oid is None else stored[oid] for oid in versions])
