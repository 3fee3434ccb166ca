"""The refs that a migration rewrites, and moving all of them at once."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError, UsageError
from git_theta_ext.git.revisions import branch_of, find_object, head_of
from git_theta_ext.operations.migrate.checks import BACKUP
from git_theta_ext.operations.migrate.journal import Move
from git_theta_ext.operations.migrate.tags import read_tags, target_of
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.util.reporter import Reporter

NOTES = "refs/notes/"
_OTHERS = ("refs/remotes/", "refs/stash", "refs/bisect/", "refs/worktree/", "refs/rewritten/", "refs/prefetch/")
"""Refs that name what is elsewhere, or that belong to an operation."""
_OURS = ("refs/theta/", "refs/theta-migrate/", "refs/heads/theta/index", BACKUP, NOTES)
_FORMAT = "--format=%(refname)%00%(objectname)%00%(objecttype)%00%(symref)"


@dataclass(frozen=True)
class Ref:
    """A ref that is rewritten.

    Attributes:
        name: Its full name, or ``HEAD`` if that is detached.
        oid: What it names.
        kind: ``commit`` or ``tag``.
    """

    name: str
    oid: str
    kind: str


def chosen_refs(repo: Repository, names: Sequence[str], *, everything: bool) -> list[Ref]:
    """Return the refs to rewrite: all, some, or that of HEAD.

    Raises:
        UsageError: A name is not a ref's, or there is no commit.
    """
    refs = [ref for ref in all_refs(repo) if not ref.name.startswith((*_OTHERS, *_OURS))]
    head = head_of(repo)
    if head is None and not refs:
        raise UsageError("there is no commit to migrate", hint="git log --all")
    branch = branch_of(repo)
    if head is not None and branch is None:
        refs.append(Ref("HEAD", head, "commit"))
    if everything:
        return refs
    wanted = [_full_name(repo, name) for name in names] or [f"refs/heads/{branch}" if branch else "HEAD"]
    known = {ref.name: ref for ref in refs}
    for name in wanted:
        if name not in known:
            raise UsageError(f"{name} is not a branch or tag that can be rewritten", hint="git for-each-ref")
    return [known[name] for name in dict.fromkeys(wanted)]


def all_refs(repo: Repository) -> list[Ref]:
    """Return all refs that name commits or tags themselves.

    Raises:
        RepositoryError: Git cannot list them.
    """
    text = repo.run("for-each-ref", _FORMAT).decode(errors="surrogateescape")
    fields = [line.split("\0") for line in text.splitlines()]
    return [Ref(name, oid, kind) for name, oid, kind, symref in fields if not symref and kind in {"commit", "tag"}]


def notes_refs(repo: Repository) -> list[Ref]:
    """Return the refs of notes."""
    return [ref for ref in all_refs(repo) if ref.name.startswith(NOTES)]


def tips_of(repo: Repository, refs: Iterable[Ref]) -> list[str]:
    """Return the ids of the commits that refs name, also through tags.

    Raises:
        RepositoryError: Git cannot read a tag.
    """
    listed = list(refs)
    tags = read_tags(repo, [ref.oid for ref in listed if ref.kind == "tag"])
    targets = [target_of(content) for content in tags.values()]
    commits = [ref.oid for ref in listed if ref.kind == "commit"]
    return list(dict.fromkeys([*commits, *(oid for oid, kind in targets if kind == "commit")]))


def moves_of(refs: Iterable[Ref], ids: Mapping[str, str]) -> list[Move]:
    """Return how refs move, given the new ids of commits and tags; without those that stay."""
    return [Move(ref.name, ref.oid, new) for ref in refs if (new := ids.get(ref.oid, ref.oid)) != ref.oid]


def move_refs(repo: Repository, moves: Iterable[Move], reporter: Reporter, message: str) -> None:
    """Move refs, all or none, and keep what they named under ``refs/original``. Those that have moved are left.

    Raises:
        RepositoryError: A ref is locked, or another process moves it.
    """
    now = {ref.name: ref.oid for ref in all_refs(repo)}
    commands: list[str] = []
    for move in moves:
        if BACKUP + move.ref not in now:
            commands.append(f"create {BACKUP}{move.ref}\0{move.old}\0")
        current = now.get(move.ref) or find_object(repo, move.ref)
        if current == move.old:
            commands.append(f"option no-deref\0update {move.ref}\0{move.new}\0{move.old}\0")
        elif current != move.new:
            reporter.warning(f"{move.ref} has changed since the migration began, and stays on the old history")
    data = "".join(commands).encode(errors="surrogateescape")
    repo.run("update-ref", "-m", message, "-z", "--stdin", input=data)


def check_out(repo: Repository, moves: Iterable[Move]) -> None:
    """Update the index and the work tree as ``git checkout`` does: files with changes are never replaced.

    Raises:
        RepositoryError: A file has changes, or the index is locked.
    """
    branch = branch_of(repo)
    head = f"refs/heads/{branch}" if branch else "HEAD"
    for move in moves:
        if move.ref == head and repo.worktree is not None and head_of(repo) == move.new:
            words = ("git", "read-tree", "-m", "-u", move.old, move.new)
            done = subprocess.run(
                words, cwd=repo.folder, env=repo.environment(), stdin=subprocess.DEVNULL, stdout=2, check=False
            )
            if done.returncode:
                raise RepositoryError(
                    "the history is rewritten, but the work tree cannot be updated",
                    hint="close what uses its files, and run git theta migrate again",
                )


def _full_name(repo: Repository, name: str) -> str:
    words = ("rev-parse", "--symbolic-full-name", "--verify", "--quiet", "--end-of-options", name)
    full = repo.run(*words, check=False).decode(errors="surrogateescape").strip()
    return full or name
