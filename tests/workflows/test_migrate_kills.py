"""A migration that is killed at any point loses nothing, and the next run completes it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from helpers import MODEL, Repo, model
from histories import copy_of, plain_history, wrong_versions
from kills import held

if TYPE_CHECKING:
    from pathlib import Path

INCLUDE = ("theta", "migrate", "import", "--include", "*.safetensors", "--everything")
POINTS = ["before fast-import", "before update-ref -m", "after update-ref -m", "after read-tree -m"]
MORE_POINTS = [
    "before hash-object -w --no-filters",
    "after fast-import",
    "before read-tree -m",
    "before update-ref -d",
    "after update-ref -d",
]
SHIM = """\
#!/bin/sh
case "$*" in
*"{command}"*)
    [ {when} = before ] || {git} "$@"
    kill -9 0 ;;
esac
exec {git} "$@"
"""


def refs(repo: Repo) -> str:
    return repo.git("for-each-ref", "--format=%(refname) %(objectname)")


def names(repo: Repo) -> set[str]:
    """Return the refs, and those that are kept, with what they name."""
    return {line.removeprefix("refs/original/") for line in refs(repo).splitlines()}


def kill_at(repo: Repo, point: str, folder: Path) -> None:
    """Run the migration, and kill all of its processes before or after a git command."""
    when, _, command = point.partition(" ")
    folder.mkdir()
    shim = folder / "git"
    shim.write_text(SHIM.format(when=when, command=command, git=shutil.which("git")))
    shim.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["git-theta", *INCLUDE[1:]],
        cwd=repo.path,
        env={**os.environ, "PATH": path, "TMPDIR": str(folder)},  # killed, it leaves temporary directories
        capture_output=True,
        start_new_session=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, (point, done.stderr)
    (repo.path / ".git/index.lock").unlink(missing_ok=True)


def problems(repo: Repo, wanted: str) -> list[str]:
    return [
        *(["refs differ"] if refs(repo) != wanted else []),
        *repo.problems(MODEL, model(5)),
        *(["a file is left"] if (repo.path / ".git/theta/migrate/moves").exists() else []),
    ]


@pytest.mark.parametrize("points", [POINTS, pytest.param(MORE_POINTS, marks=pytest.mark.soak)])
def test_the_next_run_completes_a_migration_that_was_killed(tmp_path: Path, points: list[str]) -> None:
    original = copy_of(plain_history, tmp_path / "original")
    whole = Repo(tmp_path / "whole")
    shutil.copytree(original.path, whole.path, symlinks=True)
    whole.git("update-index", "-q", "--refresh")
    whole.git(*INCLUDE)
    for n, point in enumerate(points):
        repo = Repo(tmp_path / f"repo-{n}")
        shutil.copytree(original.path, repo.path, symlinks=True)
        repo.git("update-index", "-q", "--refresh")
        kill_at(repo, point, tmp_path / f"shim-{n}")
        assert names(original) <= names(repo), point
        if point == "before update-ref -m":  # as if it was killed while it moved the refs
            moves = (repo.path / ".git/theta/migrate/moves").read_text().splitlines()
            old, new, ref = moves[0].split(" ")
            repo.git("update-ref", f"refs/original/{ref}", old)
            repo.git("update-ref", ref, new)
        repo.git(*INCLUDE)
        assert problems(repo, refs(whole)) == [], point
        assert wrong_versions(repo) == [], point
        shutil.rmtree(repo.path)


def test_what_was_stored_is_not_stored_again(tmp_path: Path) -> None:
    repo = copy_of(plain_history, tmp_path / "repo")
    journal = repo.path / ".git/theta/migrate/imported"
    (tmp_path / "hold").mkdir()
    at = ("git_theta_ext.operations.migrate.journal", "Journal", "add")
    with held(repo, tmp_path / "hold", ["git-theta", *INCLUDE[1:]], at, 2):
        pass  # it is killed there
    stored = journal.read_text().splitlines()
    packs = {path: path.stat().st_ino for path in (repo.path / ".git/theta/packs").rglob("*") if path.is_file()}
    assert len(stored) == 2
    repo.git(*INCLUDE)
    assert journal.read_text().splitlines()[: len(stored)] == stored
    assert {path: path.stat().st_ino for path in packs} == packs
    assert wrong_versions(repo) == []


def test_a_ref_that_moved_meanwhile_stays(tmp_path: Path) -> None:
    repo = copy_of(plain_history, tmp_path / "repo")
    kill_at(repo, "before update-ref -m", tmp_path / "shim")
    repo.git("branch", "--force", "side", "other")
    done = repo.run(*INCLUDE)
    assert "refs/heads/side has changed since the migration began" in done.stderr
    assert repo.git("rev-parse", "side") == repo.git("rev-parse", "refs/original/refs/heads/other")
    assert "completed" in done.stdout
