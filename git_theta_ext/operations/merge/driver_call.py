"""What git asks the merge driver, and what it gets."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from git_theta_ext.git.answer_script import MERGE, drop_scripts, write_merges
from git_theta_ext.git.answers import calling_git, drop_answers, has_answer, keep_answer
from git_theta_ext.git.objects import blob_id
from git_theta_ext.records import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from typing_extensions import Self

    from git_theta_ext.git.operation import Operation
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.manifest import Manifest

    Meanwhile = Callable[[Callable[[], Manifest]], AbstractContextManager[None]]
    """Makes a context from a function that returns the file without the values that are being computed."""


def _nothing(_: Callable[[], Manifest]) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class DriverCall:
    """A file that git asks the merge driver to merge.

    Attributes:
        path: Path of the file.
        contents: The common ancestor's, our and their version as git stores them; empty if there is none.
        marker_size: The size of conflict markers.
        heads: The current commit, and those that are merged into it.
        operation: The operation that git is performing.
        meanwhile: Entered while values are computed, with a function that returns the file if they are not.
    """

    path: str
    contents: Sequence[bytes]
    marker_size: str
    heads: Sequence[str]
    operation: Operation
    meanwhile: Meanwhile = _nothing

    def oids(self, object_format: str) -> list[str | None]:
        """Return the object ids of the versions; None for one that there is not.

        Args:
            object_format: ``sha1`` or ``sha256``.
        """
        return [blob_id(content, object_format) if content else None for content in self.contents]

    def to_merge(self, path: str, contents: Sequence[bytes]) -> Self:
        """Return the call for another file of the same merge."""
        return replace(self, path=path, contents=contents, meanwhile=_nothing)


@dataclass(frozen=True)
class Answer:
    """What git gets as the merged file.

    Attributes:
        content: The file.
        conflicted: Whether git is to leave the file in conflict.
        manifest: The manifest that the file is, if the merge may have left a draft of the checkpoint.
    """

    content: bytes
    conflicted: bool
    manifest: Manifest | None = None


@dataclass(frozen=True)
class KeptAnswers:
    """The answers to calls that the git which calls this merge driver will make.

    Attributes:
        git_dir: The repository's ``$GIT_DIR``.
        git: The git process, as ``git_theta_ext.git.answers.calling_git`` returns it.
    """

    git_dir: str
    git: str

    @classmethod
    def of(cls, repo: Repository) -> Self | None:
        """Return the answers for the calling git, and drop those left over; None if it is not certain which it is."""
        git = calling_git()
        if git is None:
            return None
        drop_answers(str(repo.git_dir))
        drop_scripts(repo.git_dir)
        return cls(str(repo.git_dir), git)

    def give_in_shell(self, repo: Repository) -> None:
        """Let the shell that git starts for the driver give the answers, if git's configuration has a shell do it."""
        if repo.config.text("merge.theta.driver") == MERGE.command:
            write_merges(repo.git_dir, self.git, repo.object_format)

    def has(self, path: str) -> bool:
        """Return whether the call for a file has an answer."""
        return has_answer(self.git_dir, self.git, path)

    def keep(self, call: DriverCall, answer: Answer) -> None:
        """Keep the answer to a call; if it cannot be written, the call will merge."""
        with suppress(OSError):
            keep_answer(
                self.git_dir,
                self.git,
                path=call.path,
                marker_size=call.marker_size,
                versions=call.contents,
                merged=answer.content,
                code=int(answer.conflicted),
            )
