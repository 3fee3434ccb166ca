"""Give refs, tags and notes the rewritten commits, as one step that is repeated if it was interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.git.objects import read_objects
from git_theta_ext.operations.migrate.journal import read_moves, write_commit_map, write_moves
from git_theta_ext.operations.migrate.refs import check_out, move_refs, moves_of, notes_refs, tips_of
from git_theta_ext.operations.migrate.rewrite import TEMPORARY_REF, NotesEdit, rewrite
from git_theta_ext.operations.migrate.tags import is_signed, read_tags, rewrite_tags
from git_theta_ext.util.files import reporting_os_errors
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.migrate.journal import Move
    from git_theta_ext.operations.migrate.refs import Ref
    from git_theta_ext.operations.workspace import Workspace

_MESSAGE = "git theta migrate"


def state_folder(repo: Repository) -> Path:
    """Return the directory from which an interrupted migration continues."""
    return repo.theta_dir / "migrate"


def finish(workspace: Workspace, refs: Sequence[Ref], ids: Mapping[str, str]) -> list[Move]:
    """Move refs, with tags and notes, to rewritten commits; then update the work tree.

    Args:
        workspace: The repository and its store.
        refs: The refs that are rewritten.
        ids: Old to new ids of commits.

    Returns:
        The refs that have moved.

    Raises:
        RepositoryError: Git cannot write an object or a ref, or the work tree is in use.
    """
    repo, folder = workspace.repo, state_folder(workspace.repo)
    tags = rewrite_tags(repo, [ref.oid for ref in refs if ref.kind == "tag"], ids)
    everything = {**ids, **tags}
    notes = notes_refs(repo)
    if notes:
        everything |= rewrite(repo, tips_of(repo, notes), NotesEdit(everything), folder / "marks", no_progress)
    moves = moves_of([*refs, *notes], everything)
    if moves:
        write_commit_map(folder / "commit-map", _commits(everything, tags))
        write_moves(_moves_file(repo), moves)
    _complete(workspace, moves)
    return moves


def finish_interrupted(workspace: Workspace) -> list[Move]:
    """Complete a migration that was interrupted while it moved refs; return the refs, none if there is none.

    Raises:
        RepositoryError: As ``finish``.
    """
    moves = read_moves(_moves_file(workspace.repo))
    if moves:
        _complete(workspace, moves)
    return moves


def count_signatures(repo: Repository, commits: Iterable[str], refs: Iterable[Ref]) -> int:
    """Return how many commits and tags have a signature, or record a merged tag; the rewritten ones do not."""
    heads = (content.partition(b"\n\n")[0] for _, content in read_objects(repo, commits))
    signed = sum(b"\ngpgsig" in head or b"\nmergetag " in head for head in heads)
    tags = read_tags(repo, [ref.oid for ref in refs if ref.kind == "tag"])
    return signed + sum(is_signed(content) for content in tags.values())


def _complete(workspace: Workspace, moves: Sequence[Move]) -> None:
    repo, file = workspace.repo, _moves_file(workspace.repo)
    if moves:
        move_refs(repo, moves, workspace.reporter, _MESSAGE)
        check_out(repo, moves)
    repo.run("update-ref", "-d", TEMPORARY_REF)
    with reporting_os_errors(file):
        if file.exists():
            file.replace(file.with_name("ref-map"))
        for name in ("marks", "blob"):
            file.with_name(name).unlink(missing_ok=True)


def _commits(ids: Mapping[str, str], tags: Mapping[str, str]) -> dict[str, str]:
    return {old: new for old, new in ids.items() if old not in tags}


def _moves_file(repo: Repository) -> Path:
    return state_folder(repo) / "moves"
