"""Leave a merged checkpoint for the checkout that the same git process makes after the merge."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import MissingError
from git_theta_ext.git.answer_script import FILTER_COMMAND
from git_theta_ext.git.answers import drop_answers
from git_theta_ext.git.caller import runs_filter
from git_theta_ext.model.shards import model_name
from git_theta_ext.store.skeletons import read_skeleton

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from git_theta_ext.checkpoint.draft import Draft
    from git_theta_ext.merging.planning.plan import Plan
    from git_theta_ext.operations.merge.driver_call import Answer
    from git_theta_ext.operations.workspace import Workspace


@contextmanager
def drafting(workspace: Workspace, plan: Plan, path: str, folder: Path | None) -> Iterator[Draft | None]:
    """Give the draft of a checkpoint that is merged, if this process computes all its tensors and has its layout.

    Args:
        workspace: The repository and its store.
        plan: The plan of the merge.
        path: Path of the checkpoint.
        folder: Where to leave the draft; None to leave none.
    """
    if folder is None or workspace.settings.cluster is not None or not plan.computes_all:
        yield None
        return
    try:
        layout = read_skeleton(workspace.store, plan.layout.skeleton, parameters=len(plan.decisions), path=path)
    except MissingError:  # a clone may download it for the checkout only
        yield None
        return
    from git_theta_ext.checkpoint.draft import Draft  # most merges take a value

    drop_answers(str(workspace.repo.git_dir))
    draft = Draft.begin(folder / f"{os.getpid()}.part", workspace.repo.folder / path, layout)
    with draft or nullcontext():
        yield draft


def give_drafts_in_shell(workspace: Workspace, git: str, folder: Path, merged: Mapping[str, Answer]) -> None:
    """Let the shell that git starts for the filter give small drafts, if git's configuration has a shell do it.

    The drafts stay, because the shell lets Python go on if git asks for anything else. Otherwise it removes them.

    Args:
        workspace: The repository and its store.
        git: The git process, as ``git_theta_ext.git.answers.calling_git`` returns it.
        folder: The directory with its drafts.
        merged: The results of the merge by path.
    """
    from git_theta_ext.checkpoint.draft import finished_draft  # most merges take a value, and leave no draft
    from git_theta_ext.git.process import skips_smudge
    from git_theta_ext.operations.filter.pending import read_pending
    from git_theta_ext.operations.merge.checkout_script import LARGEST, MergedFile, write_checkout

    repo = workspace.repo
    if repo.config.text("filter.theta.process") != FILTER_COMMAND or repo.config.fsync_index:
        return
    # Git starts a filter once, and before the merge if it has to compare files that are as new as its index.
    if skips_smudge() or read_pending(repo) or runs_filter(int(git.partition("-")[0])):
        return
    files = []
    with suppress(OSError):
        for path, answer in merged.items():
            if answer.manifest is None or answer.conflicted or model_name(path) != path:
                continue
            draft = finished_draft(folder, answer.manifest, repo.folder / path)
            if draft is not None and draft.stat().st_size <= LARGEST:
                files.append(MergedFile(path, answer.content, draft.read_bytes()))
        write_checkout(repo.git_dir, git, repo.object_format, files)
