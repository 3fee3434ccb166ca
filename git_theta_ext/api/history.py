"""Read the history of models in Python: ``git_theta_ext.log``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, overload

from git_theta_ext.api.versions import LOG, explained, folder_of, revision_name
from git_theta_ext.errors import UsageError
from git_theta_ext.git.commit_log import read_log
from git_theta_ext.merging.rules.globs import chooser
from git_theta_ext.operations.history.changes import RECORD, model_changes
from git_theta_ext.operations.history.page import history_page
from git_theta_ext.operations.history.schema import commit_data
from git_theta_ext.operations.history.words import SHORT, describe_merge, describe_model
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.util.libraries import require
from git_theta_ext.util.reporter import LogReporter
from git_theta_ext.util.text import printable
from git_theta_ext.webpage.render import framed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import git
    import pandas as pd

    from git_theta_ext.api.versions import Path, Place, Revision
    from git_theta_ext.operations.history.changes import CommitChanges


@explained()
def log(
    path: Path = "", *, rev: Revision = "HEAD", parameters: str | Sequence[str] = (), repository: Place = "."
) -> History:
    """List the commits that changed the parameters of models. No tensor is read.

    Example:
        >>> for entry in git_theta_ext.log("model.safetensors"):
        ...     accuracy[entry.id] = evaluate(git_theta_ext.load("model.safetensors", rev=entry.commit))

    Args:
        path: A checkpoint or a directory, from the top of the repository; empty for all.
        rev: A revision, or a ``git.Commit`` of GitPython, whose history is listed, or a range such as ``v1..v2``.
        parameters: Only commits that changed parameters whose names match one of these patterns.
        repository: A directory in the repository, or a ``git.Repo`` of GitPython.

    Raises:
        ThetaError: The revision does not exist, or a pattern is not valid.
    """
    folder, inside = folder_of(repository), os.fspath(path)
    with Workspace.discover(LogReporter(LOG), folder) as workspace:
        try:
            chosen = chooser([parameters] if isinstance(parameters, str) else parameters)
        except ValueError as error:
            raise UsageError(f"parameters: {error}", hint='parameters="layers.7.**"') from error
        words = ["--end-of-options", revision_name(rev), "--", *([f":(top,literal){inside}"] if inside else [])]
        commits = read_log(workspace.repo, words, trailer=RECORD, cwd=workspace.repo.folder)
        return History(repository, inside, model_changes(workspace, commits, chosen))


class _Repository:
    """The repository that was asked for, opened by GitPython once for all commits, and only for these."""

    def __init__(self, place: Place) -> None:
        self._place = place

    @cached_property
    def opened(self) -> git.Repo:
        if not isinstance(self._place, str | os.PathLike):
            return self._place
        require("git", "commit")
        import git

        return git.Repo(self._place, search_parent_directories=True)


class HistoryEntry:
    """A commit that changed parameters.

    Attributes:
        id: The commit's id.
        date: When it was written, as ISO 8601 has it.
        author: Name of its author.
        subject: First line of its message.
    """

    def __init__(self, repository: _Repository, changes: CommitChanges) -> None:
        self._repository = repository
        self._changes = changes
        self.id = changes.commit.oid
        self.date = changes.commit.date
        self.author = changes.commit.author
        self.subject = changes.commit.subject

    @property
    def commit(self) -> git.Commit:
        """The commit of GitPython.

        Raises:
            LibraryError: GitPython is not installed.
        """
        return self._repository.opened.commit(self.id)

    def to_dict(self) -> dict[str, Any]:
        """Return it as an item of ``commits`` in ``git theta log --json``."""
        return commit_data(self._changes)

    def __repr__(self) -> str:
        """Return it as ``git theta log`` prints it."""
        changes = [*map(describe_merge, self._changes.records), *map(describe_model, self._changes.models)]
        return "\n    ".join([printable(f"{self.id[:SHORT]} {self.date[:10]} {self.author}: {self.subject}"), *changes])


class History(Sequence[HistoryEntry]):
    """The commits that changed parameters, from the newest on; ``git_theta_ext.log`` returns it.

    It prints as ``git theta log`` does. A notebook shows it as the page of ``git theta log --html``.
    """

    def __init__(self, repository: Place, path: str, changes: Iterator[CommitChanges]) -> None:
        self._title = f"log of {path}" if path else "log"
        self._changes = list(changes)
        self._entries = list(map(partial(HistoryEntry, _Repository(repository)), self._changes))

    @overload
    def __getitem__(self, index: int) -> HistoryEntry: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[HistoryEntry]: ...

    def __getitem__(self, index: int | slice) -> HistoryEntry | Sequence[HistoryEntry]:
        """Return one commit, or several."""
        return self._entries[index]

    def __len__(self) -> int:
        """Return the number of commits."""
        return len(self._entries)

    def to_dict(self) -> dict[str, Any]:
        """Return it as ``git theta log --json`` has it; docs/history.md says where its keys are described."""
        return {"commits": [entry.to_dict() for entry in self]}

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with a row for each commit and model.

        The columns are the keys of ``models`` in ``git theta log --json``, such as ``path`` and ``modified``, and
        ``commit``, ``date``, ``author`` and ``subject``.

        Raises:
            LibraryError: pandas is not installed.
        """
        require("pandas", "to_pandas()")
        import pandas as pd

        about = ("commit", "date", "author", "subject")
        commits = self.to_dict()["commits"]
        rows = [{key: each[key] for key in about} | model for each in commits for model in each["models"]]
        return pd.DataFrame(rows, columns=None if rows else list(about))

    def __repr__(self) -> str:
        """Return it as text."""
        return "\n".join(map(repr, self))

    def _repr_html_(self) -> str:
        return framed(history_page(self._title, self._changes))
