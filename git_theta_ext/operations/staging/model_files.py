"""Find the model among some files of the work tree."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_theta_ext.errors import UsageError
from git_theta_ext.git.path_attributes import model_names
from git_theta_ext.model.shards import models_of
from git_theta_ext.operations.models import indexes_in_worktree
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Iterable

    from git_theta_ext.git.repository import Repository


def the_model(repo: Repository, paths: Iterable[str]) -> tuple[str, ...]:
    """Return the files of the only model of several files among some checkpoints, or else the only checkpoint.

    Raises:
        UsageError: There are several.
    """
    checkpoints = list(paths)
    indexes = indexes_in_worktree(repo, sorted({posixpath.dirname(path) for path in checkpoints}))
    models = models_of(checkpoints, indexes, model_names(repo.run, checkpoints))
    chosen = [model for model in models if len(model.shards) > 1] or models
    if len(chosen) > 1:
        names = shortlist(repo.shown(model.name) for model in chosen)
        raise UsageError(f"--update takes one model, and not {names}", hint="git theta add PATH --update KIND=FILE")
    return chosen[0].shards
