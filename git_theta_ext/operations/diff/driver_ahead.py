"""Compare the next checkpoints of a diff when git calls the driver for one of them.

Each call of the driver starts Python, and imports numpy, for one file. The answers are kept for git's later calls. If
it is not certain which files git will compare, or if files are large, each call compares its own file.
"""

from __future__ import annotations

import os
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import ThetaError
from git_theta_ext.git.answer_script import DIFF, ShellAnswer, drop_scripts, text_answer, write_texts
from git_theta_ext.git.answers import calling_git, diff_question, drop_answers, keep_text
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.caller import calling_commands
from git_theta_ext.git.raw_diff import changes
from git_theta_ext.operations.diff.driver import compare_versions, held_values, manifests_of, sides_of
from git_theta_ext.operations.diff.git_call import DiffCall, call_for, compared_by, same
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.records import dataclass
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from git_theta_ext.comparison.changes import ModelChange
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.diff.sides import Side
    from git_theta_ext.util.reporter import Progress

    Answer = Callable[[ModelChange | None], tuple[bytes, int]]
    """Returns what the driver prints, and its exit code."""

_TOTAL = "GIT_DIFF_PATH_TOTAL"
_MOST_FILES = 32
_MOST_BYTES = 1 << 26
"""Bytes that are read ahead: the reader of the diff waits for them, and may not want to see them."""


@dataclass
class _Silence:
    """A reporter that notes whether there was anything to report."""

    broken: bool = False

    def note(self, _: str) -> None:
        """Note it."""
        self.broken = True

    def warning(self, _: str, hint: str | None = None) -> None:  # noqa: ARG002 - as Reporter
        """Note it."""
        self.broken = True

    def error(self, _: ThetaError) -> None:
        """Note it."""
        self.broken = True

    def progress(self, label: str, total: int = 0, *, counted: bool = False) -> AbstractContextManager[Progress]:  # noqa: ARG002 - as Reporter
        """Show nothing."""
        return nullcontext(no_progress)


@dataclass(frozen=True)
class _Opened:
    """A call whose versions were read.

    Attributes:
        call: What git will ask.
        question: What the answer belongs to, from before the versions were read.
        sides: Both versions.
    """

    call: DiffCall
    question: bytes
    sides: tuple[Side, Side]


def compare_ahead(repo: Repository, words: Sequence[str], answer: Answer) -> None:
    """Compare the checkpoints that follow in a diff, and keep the answers to git's calls for them.

    A file of which there is anything to report is left to its own call.

    Args:
        repo: The repository.
        words: The words of the call that git made, and that is answered.
        answer: Makes an answer.

    Raises:
        ThetaError: Git does not say which files it compares.
    """
    git = calling_git()
    if git is None or os.environ.get(_TOTAL, "1") == "1":
        return
    calls = list(_next_calls(repo, DiffCall.of(words)))
    formats = theta_paths(repo.run, {path for call in calls for path in (call.path, call.new_path)})
    calls = [call for call in calls if call.path in formats and call.new_path in formats]
    if not calls:
        return
    drop_answers(str(repo.git_dir))
    drop_scripts(repo.git_dir)
    kept = [found for found in _kept(repo, git, calls, formats, answer) if found is not None]
    if repo.config.text("diff.theta.command") == DIFF.command:
        write_texts(repo.git_dir, git, kept)


def _kept(
    repo: Repository, git: str, calls: Sequence[DiffCall], formats: Mapping[str, str | None], answer: Answer
) -> Iterator[ShellAnswer | None]:
    """Keep the answers to calls, and yield them; None for one that the shell cannot give."""
    silence = _Silence()
    with Workspace(repo, silence) as workspace:
        opened = list(_opened(workspace, silence, calls, formats))
        with workspace.store.holding(held_values(one.sides for one in opened)):
            for one in opened:
                with suppress(ThetaError, OSError):  # the file's own call reports it
                    silence.broken = False
                    text, code = answer(compare_versions(workspace, one.call, *one.sides))
                    if not silence.broken:
                        words, question, path = _words(one.call), one.question, one.call.path
                        file = keep_text(str(repo.git_dir), git, path=path, question=question, text=text, code=code)
                        yield text_answer(words, question, file, len(text), code)


def _opened(
    workspace: Workspace, silence: _Silence, calls: Sequence[DiffCall], formats: Mapping[str, str | None]
) -> Iterator[_Opened]:
    """Yield the calls that can be answered, as long as what they read is small."""
    manifests = manifests_of(workspace, calls)
    left = _MOST_BYTES
    for call in calls:
        with suppress(ThetaError, OSError):
            silence.broken = False
            if any(version.stored and version.oid not in manifests for version in (call.old, call.new)):
                continue  # git itself stores the file, and makes a copy of it for its call
            question = diff_question(_words(call))
            left -= _file_bytes(workspace.repo, call)
            if left < 0:
                return
            sides = sides_of(workspace, call, formats, manifests)
            left -= _changed_bytes(*sides)
            if left < 0:
                return
            if not silence.broken and not _lacks_values(workspace, *sides):
                yield _Opened(call, question, sides)


def _next_calls(repo: Repository, call: DiffCall) -> Iterator[DiffCall]:
    """Yield the calls that follow a call, if ``git diff`` makes it and it is certain which ones these are."""
    compared = compared_by(next(calling_commands(os.getppid()), ()))
    if compared is None:
        return
    calls = [call_for(change) for change in changes(repo, compared, repo.folder / repo.prefix).files]
    found = next((number for number, one in enumerate(calls) if same(one, call)), len(calls))
    yield from calls[found + 1 : found + 1 + _MOST_FILES]


def _words(call: DiffCall) -> list[str]:
    versions = [word for one in (call.old, call.new) for word in (one.file, one.oid, one.mode)]
    return [call.path, *versions, *([call.new_path, ""] if call.renamed else [])]


def _file_bytes(repo: Repository, call: DiffCall) -> int:
    """Return the size of the files that have to be read to know what they hold."""
    files = [version.file for version in (call.old, call.new) if not version.oid.strip("0")]
    return sum((repo.folder / file).lstat().st_size for file in files)


def _changed_bytes(old: Side, new: Side) -> int:
    """Return the size of the tensors that only one of two versions has."""
    tensors = [{} if side.manifest is None else dict(side.manifest.digests()) for side in (old, new)]
    return sum((tensors[0] | tensors[1])[digest] for digest in tensors[0].keys() ^ tensors[1].keys())


def _lacks_values(workspace: Workspace, *sides: Side) -> bool:
    """Return whether the store lacks values of a version: git may have a file with them for its call."""
    stored = [side.manifest for side in sides if side.manifest is not None and side.path is None]
    return bool(workspace.store.touch_and_find_missing({digest for one in stored for digest, _ in one.digests()}))
