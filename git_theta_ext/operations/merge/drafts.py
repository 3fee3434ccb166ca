"""Leave a merged checkpoint for the checkout that the same git process makes after the merge."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from git_theta_ext.errors import MissingError
from git_theta_ext.git.answers import drop_answers
from git_theta_ext.store.skeletons import read_skeleton

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from git_theta_ext.checkpoint.draft import Draft
    from git_theta_ext.merging.planning.plan import Plan
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
