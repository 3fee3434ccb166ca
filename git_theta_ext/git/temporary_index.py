"""A temporary index, for operations that git performs only on an index."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_theta_ext.git.process import RunGit
    from git_theta_ext.git.repository import Repository


@contextmanager
def temporary_index(repo: Repository, tree: str | None = None) -> Iterator[RunGit]:
    """Yield a function that runs git with an index of a tree, or of a commit's tree; an empty one if it is None.

    Raises:
        RepositoryError: There is no such tree.
    """
    with tempfile.TemporaryDirectory(prefix="git-theta-") as folder:
        run = partial(repo.run, env={"GIT_INDEX_FILE": str(Path(folder) / "index")})
        if tree is not None:
            run("read-tree", tree)
        yield run
