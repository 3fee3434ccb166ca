"""Report models of several files that git could not merge file by file, without calling the merge driver."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_theta_ext.git.unmerged import unmerged
from git_theta_ext.model.shards import model_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from git_theta_ext.operations.workspace import Workspace

_STOPPED = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD")
"""Files in ``$GIT_DIR`` while a merge or a replay is stopped by conflicts."""

_WRITING = ("checkout", "checkout-index", "read-tree", "reset", "restore", "switch")
"""Commands of git that write files and merge nothing, unless they carry changes along."""


def warn_of_models(workspace: Workspace, written: Mapping[str, bytes], command: str | None, *, merges: bool) -> None:
    """Report models that git did not merge as one: those of several files, and renamed ones.

    Nothing is imported for checkpoints of one file, unless an operation of git is in progress. Nothing is reported when
    another command writes files while a merge is stopped.

    Args:
        workspace: The repository and its store.
        written: Paths of checkpoints that git wrote, and their manifests.
        command: The command of git that wrote them, such as ``merge``; None if it is unknown.
        merges: Whether git merges branches.

    Raises:
        ThetaError: A version is broken, or git cannot read a commit.
    """
    if not written or command in _WRITING:
        return
    if command == "stash" or any((workspace.repo.git_dir / name).exists() for name in _STOPPED):
        from git_theta_ext.operations.merge.renamed import warn_of_renamed

        warn_of_renamed(workspace)
    models: dict[str, dict[str, bytes]] = {}
    for path, content in written.items():
        if (name := model_name(path)) != path:
            models.setdefault(name, {})[path] = content
    if not models:
        return
    from git_theta_ext.operations.merge.kept_models import is_kept

    # The driver reports on a model that it merged. To find this out otherwise takes six processes of git.
    shards = [path for name, files in models.items() if not is_kept(workspace.repo, name, files) for path in files]
    if not shards:
        return
    warn_of_unfinished(workspace, shards)
    if merges:
        from git_theta_ext.operations.merge.divided_units import warn_of_divided

        warn_of_divided(workspace, shards)


def warn_of_unfinished(workspace: Workspace, written: Iterable[str]) -> None:
    """Report models of several files that git could not merge, if it called no driver that reports this.

    Args:
        workspace: The repository and its store.
        written: Paths of checkpoints that git wrote.
    """
    repo = workspace.repo
    names = {model_name(path) for path in written if model_name(path) != path}
    for path, stages in unmerged(repo).items() if names else ():
        if model_name(path) not in names:
            continue
        names.remove(model_name(path))
        if not {2, 3} <= stages.keys():
            workspace.reporter.warning(
                f"{model_name(path)}: one side divided the model into other files, and git merges files one by one",
                f"git theta resolve {repo.argument(posixpath.dirname(path))}",
            )
