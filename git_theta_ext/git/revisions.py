"""Find the current commit, and the version of a checkpoint that a user names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.errors import ManifestError, MergeError, RepositoryError, UsageError
from git_theta_ext.model.manifest import Manifest, is_manifest
from git_theta_ext.util.quoting import shell_word, shown_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.git.repository import Repository

_TO_THE_SAME_NAME = frozenset({"current", "matching"})
"""Values of ``push.default`` for which the branch on the remote has the name of the local one."""


def find_object(repo: Repository, name: str, env: Mapping[str, str] | None = None) -> str | None:
    """Return the id of the object that a name resolves to, such as ``HEAD:PATH``; None if there is none."""
    output = repo.run("rev-parse", "--quiet", "--verify", "--end-of-options", name, check=False, env=env)
    return output.decode().strip() or None


def commit_id(repo: Repository, name: str) -> str:
    """Return the id of the commit that a name resolves to.

    Raises:
        RepositoryError: There is none.
    """
    oid = find_object(repo, f"{name}^{{commit}}")
    if oid is None:
        hint = unshallow_hint(repo) or "git branch --all, or git tag"
        raise RepositoryError(f"{name} is not a commit of this repository", hint=hint)
    return oid


def unshallow_hint(repo: Repository) -> str | None:
    """Return how to get the commits that a shallow clone lacks; None if no commits are missing."""
    shallow = (repo.common_dir / "shallow").exists()
    return "git fetch --unshallow, as this clone lacks earlier commits" if shallow else None


def objects_of(repo: Repository, words: Sequence[str]) -> list[str]:
    """Return the ids of the objects that revisions name, those that are excluded with a caret.

    What is no revision is left out. A range such as ``A..B`` names two objects.
    """
    answer = repo.run("rev-parse", "--revs-only", *words, "--", check=False, cwd=Path.cwd())
    return answer.decode(errors="surrogateescape").split()


def head_of(repo: Repository) -> str | None:
    """Return the id of the current commit, or None before the first one."""
    return find_object(repo, "HEAD^{commit}")


def branch_of(repo: Repository) -> str | None:
    """Return the name of the current branch, or None if HEAD is detached."""
    name = repo.run("symbolic-ref", "--quiet", "--short", "HEAD", check=False).decode(errors="surrogateescape")
    return name.removesuffix("\n") or None


def pushed_ref(repo: Repository, remote: str) -> str | None:
    """Return the full name of the ref of a remote that the current branch is pushed to; None without a branch."""
    branch = branch_of(repo)
    if branch is None:
        return None
    # A refspec for pushes precedes the upstream branch, which does not count if pushes keep the name.
    form = "--format=%(push:remotename)%00%(push:remoteref)%0a%(upstream:remotename)%00%(upstream:remoteref)"
    lines = repo.run("for-each-ref", form, f"refs/heads/{branch}").decode(errors="surrogateescape").splitlines()
    if (repo.config.text("push.default") or "").lower() in _TO_THE_SAME_NAME:
        lines = lines[:1]
    targets = (ref for name, _, ref in (line.partition("\0") for line in lines) if name == remote and ref)
    return next(targets, f"refs/heads/{branch}")


def merge_heads(repo: Repository) -> list[str]:
    """Return the ids of the commits that the next commit will merge into the current one."""
    try:
        return (repo.git_dir / "MERGE_HEAD").read_text().split()
    except OSError:
        return []


def merge_keeps_head(repo: Repository) -> bool:
    """Return whether the next commit, a merge, has the current one as a parent even if the others contain it."""
    try:
        return (repo.git_dir / "MERGE_MODE").read_text() == "no-ff"
    except OSError:
        return False


def merge_bases(repo: Repository, commits: Iterable[str]) -> list[str]:
    """Return the ids of the best common ancestors of all commits; none if they have none, or one is missing."""
    return repo.run("merge-base", "--octopus", "--all", *commits, check=False).decode().split()


def independent(repo: Repository, commits: Sequence[str]) -> bool:
    """Return whether none of some commits is contained in another one."""
    if len(commits) == 2 and (bases := merge_bases(repo, commits)):  # noqa: PLR2004 - two sides, and git was often asked
        return set(commits).isdisjoint(bases)
    return set(repo.run("merge-base", "--independent", *commits, check=False).decode().split()) == set(commits)


def parents_of(repo: Repository, commit: str) -> list[str]:
    """Return the ids of a commit's parents, which may be missing in a shallow clone.

    Raises:
        RepositoryError: There is no such commit.
    """
    head = repo.run("cat-file", "commit", commit).partition(b"\n\n")[0]
    return [line[7:].decode() for line in head.splitlines() if line.startswith(b"parent ")]


def are_merged(repo: Repository, commits: Iterable[str], parents: Iterable[str]) -> bool:
    """Return whether a commit with these parents can be a merge of these commits.

    Git omits parents that are ancestors of the others, such as the current commit when its descendants are merged.
    """
    named, actual = set(commits), set(parents)
    if named <= actual:
        return True
    if len(actual) == 1 or not actual <= named:
        return False
    try:
        contained = (f"^{parent}" for parent in actual)
        return not repo.run("rev-list", "-n1", "--end-of-options", *(named - actual), *contained)
    except RepositoryError:
        return False


def check_two_sides(repo: Repository, path: str) -> None:
    """Raise an error if more sides are being merged than the index has versions of.

    Raises:
        MergeError: More than one commit is being merged into the current one.
    """
    sides = 1 + len(merge_heads(repo))
    if sides > 2:  # noqa: PLR2004 - ours and theirs
        raise MergeError(
            f"{shown_path(path)}: {sides} sides are being merged, but git's index holds only two",
            hint="git merge --abort, then merge again; git add takes the file as it is",
        )


def manifest_of(repo: Repository, name: str, *, command: str, cwd: Path | None = None) -> Manifest:
    """Return the manifest that ``REV:PATH`` names; ``./PATH`` is relative to ``cwd``.

    Args:
        repo: The repository.
        name: A commit and a path in it; ``:PATH`` is the index's version.
        command: The user's command for hints, with ``{}`` for the name.
        cwd: Directory that relative paths start from; the current one if None.

    Raises:
        UsageError: The name is not REV:PATH.
        RepositoryError: There is no such commit or path.
        ManifestError: The file is not a manifest.
    """
    if ":" not in name:
        whole = f"{name}:PATH" if _is_commit(repo, name) else f"HEAD:{os.path.normpath(repo.prefix + name)}"
        raise UsageError(
            f"{name!r} does not name a version of a file, which is REV:PATH",
            hint=command.replace("{}", shell_word(whole)),
        )
    rev, _, path = name.partition(":")
    try:
        data = repo.run("cat-file", "blob", name, cwd=cwd or Path.cwd())
    except RepositoryError as error:
        valid = not rev or _is_commit(repo, rev)
        hint = (
            " ".join(["git theta ls-files", *([shell_word(rev)] if rev else [])])
            if valid
            else "git log --oneline --all"
        )
        relative = f"{rev}:./{path}"
        if valid and repo.run("rev-parse", "--quiet", "--verify", relative, cwd=cwd or Path.cwd(), check=False):
            typed = command.replace("{}", shell_word(relative))
            hint = f"paths start at the top of the repository; this one is relative to the directory: {typed}"
        raise RepositoryError(f"{shown_path(name)}: {error.message}", hint=hint) from error
    if not is_manifest(data):
        raise ManifestError(
            f"{shown_path(name)} is not a checkpoint that git theta tracks: git stores the file itself",
            hint=f"{repo.git_at_top} theta track {shell_word(path)} && git theta add {repo.argument(path)}",
        )
    try:
        return Manifest.parse(data)
    except ManifestError as error:
        raise ManifestError(f"{shown_path(name)}: {error.message}", hint=error.hint) from error


def _is_commit(repo: Repository, name: str) -> bool:
    return find_object(repo, f"{name}^{{commit}}") is not None
