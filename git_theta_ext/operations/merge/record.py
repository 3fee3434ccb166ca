"""Record how checkpoints are merged, and add the records to the message of the merge commit.

The merge driver, the strategy and ``git theta resolve`` write records to ``$GIT_DIR/theta/merge.json``. Git's hook
prepare-commit-msg turns them into trailers, for checkpoints whose staged version is the recorded result.
"""

from __future__ import annotations

import os
import re
from contextlib import closing
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError, ThetaError
from git_theta_ext.git.record_script import write_records
from git_theta_ext.git.revisions import head_of, merge_heads, merge_keeps_head
from git_theta_ext.merging.record import TRAILER, Record
from git_theta_ext.operations.merge.notes import NotedMerge, add_notes, notes_file, read_notes, write_notes
from git_theta_ext.records import replace
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.threads import batches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.record import Step
    from git_theta_ext.merging.rules.rules import Rules
    from git_theta_ext.operations.merge.notes import Results
    from git_theta_ext.operations.workspace import Workspace

LARGEST = 100_000
"""The most bytes of a trailer: Linux allows no argument of more than 128 KiB."""

_TOGETHER = 200_000
"""Bytes of trailers that one git process is given: macOS allows no more than 1 MiB of arguments and environment."""

_FEW = 32
"""Checkpoints whose trailers the driver makes: it makes them again if git calls it for another checkpoint."""

_OBJECT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


def note_merge(repo: Repository, heads: Sequence[str], merged: Mapping[str, tuple[Record | None, Results]]) -> None:
    """Record how checkpoints were merged, if git is merging commits.

    Args:
        repo: The repository.
        heads: The current commit, and those that are merged into it.
        merged: Path to its record, None if no rule mattered, and to the object ids of the merged files.

    Raises:
        StoreError: The record cannot be written.
    """
    if len(heads) > 1:
        noted = {path: NotedMerge(record, results) for path, (record, results) in merged.items() if record is not None}
        add_notes(repo, heads, noted, [path for path in merged if path not in noted])


def note_step(repo: Repository, step: Step, before: Results, after: Results) -> None:
    """Record that conflicts of a checkpoint or a model were resolved, if it is known how it was merged.

    Args:
        repo: The repository.
        step: The resolution.
        before: Object ids of the manifests with the conflicts, all of those that the model has.
        after: Object ids of the resulting manifests.

    Raises:
        StoreError: The record cannot be written.
    """
    noted = read_notes(repo)
    if noted is None:
        return
    heads, merges = noted
    for name, merge in merges.items():
        if before.items() <= merge.results.items():
            resolved = NotedMerge(merge.record.resolved(step), {**merge.results, **after})
            write_notes(repo, heads, {**merges, name: resolved})
            return


def note_search(repo: Repository, search: Mapping[str, str]) -> None:
    """Record by which search the rules of the merge were chosen that is being made.

    Args:
        repo: The repository.
        search: What is recorded of the search.

    Raises:
        StoreError: The record cannot be written.
    """
    noted = read_notes(repo)
    if noted is not None:
        merges = {name: replace(one, record=replace(one.record, search=search)) for name, one in noted[1].items()}
        write_notes(repo, noted[0], merges)


def attach(repo: Repository, message: Path, words: Sequence[str] = ()) -> list[str]:
    """Add trailers to the message of a merge that is being committed, and remove those that do not apply to it.

    Args:
        repo: The repository.
        message: The file with the message, the hook's first argument.
        words: The hook's other arguments.

    Returns:
        Paths of checkpoints whose record is too long to add.

    Raises:
        RepositoryError: Git cannot add them.
    """
    # Importing this takes as long as all else that the merge driver does, which imports this module, too.
    from git_theta_ext.git.remembering import RememberingRepository
    from git_theta_ext.operations.merge.record_text import MergedCommits, trailer_text
    from git_theta_ext.operations.merge.trailers import drop_untrue

    with closing(RememberingRepository.of(repo)) as remembering:
        commits, records = _records_toadd_notes(repo)
        merged = MergedCommits(remembering, commits, keeps_head=merge_keeps_head(repo))
        texts = {record.path: trailer_text(merged, record) for record in records}
    drop_untrue(repo, message, words, texts)
    short = [text for text in texts.values() if len(text) <= LARGEST]
    if short:
        _end_line(message)
        for some in batches(short, len, _TOGETHER):
            added = [word for text in some for word in ("--trailer", f"{TRAILER}: {text}")]
            options = ("--in-place", "--if-exists", "addIfDifferent", *added)
            repo.run("interpret-trailers", *options, str(message.absolute()))
    return [path for path, text in texts.items() if len(text) > LARGEST]


def leave_for_hook(repo: Repository, git: str, heads: Sequence[str]) -> None:
    """Let the hook add the trailers of the merge without starting Python, if it is certain what they are.

    Args:
        repo: The repository.
        git: The ``git merge`` that will run the hook, as ``git_theta_ext.git.answers.calling_git`` returns it.
        heads: The current commit, and those that are merged into it.

    Raises:
        ThetaError: The trailers cannot be made; the hook reports it.
    """
    noted = read_notes(repo)
    if noted is None or noted[0] != tuple(heads) or len(noted[1]) > _FEW:
        return
    from git_theta_ext.operations.merge.record_text import MergedCommits, trailer_text

    merges = [merge for _, merge in sorted(noted[1].items())]
    merged = MergedCommits(repo, heads)
    if not merged.all_parents:
        return
    texts = [trailer_text(merged, merge.record) for merge in merges]
    if sum(map(len, texts)) <= LARGEST:
        staged = {path: oid for merge in merges for path, oid in merge.results.items()}
        write_records(repo.git_dir, git, TRAILER, texts, staged)


def _records_toadd_notes(repo: Repository) -> tuple[Sequence[str], list[Record]]:
    """Return the commits of the merge that is being committed, and its records of checkpoints staged as recorded."""
    noted = read_notes(repo)
    if noted is None:
        return (), []
    heads, merges = noted
    if head_of(repo) != heads[0]:
        notes_file(repo).unlink(missing_ok=True)  # that merge is committed or aborted
        return (), []
    merged = merge_heads(repo)
    if set(merged) != set(heads[1:]):
        return (), []
    staged = {entry.path: entry.oid for entry in repo.entries(None) if entry.stage == 0}
    records = [merge.record for _, merge in sorted(merges.items()) if merge.results.items() <= staged.items()]
    return (heads[0], *merged), records


def _end_line(message: Path) -> None:
    """End the last line of a file: git would append trailers to a line that is not terminated."""
    with message.open("r+b") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        if file.read(1) not in {b"", b"\n"}:
            file.write(b"\n")


def records_of(repo: Repository, commit: str) -> list[Record]:
    """Return the records in a commit's message; the last one of each checkpoint counts.

    Raises:
        RepositoryError: There is no such commit.
        MergeError: A trailer is not valid, or belongs to another merge.
        PluginError: A method is not installed.
    """
    from git_theta_ext.operations.merge.record_text import MergedCommits, read_record

    wanted = f"--format=%P%x00%(trailers:key={TRAILER},valueonly,unfold)"
    text = repo.run("show", "--no-patch", "--no-notes", wanted, "--end-of-options", f"{commit}^{{commit}}")
    parents, _, trailers = text.decode(errors="replace").partition("\0")
    merged = MergedCommits(repo, parents.split())
    records = [read_record(merged, line) for line in trailers.splitlines() if line.strip()]
    for record in records:
        for name in (*record.sides, *record.commits, *([] if record.base is None else [record.base])):
            if not _OBJECT.fullmatch(name):  # trailers can be written by hand, and git would parse any revision
                raise MergeError(
                    f"the record of how {shown_path(record.path)} was merged names {name[:80]!r}, "
                    "which is not an object id"
                )
    return list({record.path: record for record in records}.values())


def recorded_rules(workspace: Workspace, commit: str, path: str) -> Rules | None:
    """Return the rules for a checkpoint that a merge commit records; None if it records none.

    If the record cannot be read, this is reported, and the rules of the repository apply.
    """
    try:
        records = records_of(workspace.repo, commit)
    except ThetaError as error:
        workspace.reporter.warning(
            f"{shown_path(path)}: cannot read how merge {commit[:12]} was made: {error.message}; "
            "using the current rules",
            error.hint or f"git theta merge --report {commit[:12]}",
        )
        return None
    return next((record.rules for record in records if record.path == path), None)
