"""Squash, rebase, branch deletion, gc: manifests name content, so nothing that git keeps is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers import ATTENTION, MODEL, Repo, model

if TYPE_CHECKING:
    from pathlib import Path


def forget(repo: Repo) -> None:
    """Throw away everything that no ref names."""
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("gc", "--quiet", "--prune=now")


def test_squash_and_branch_deletion_and_gc(forked: Repo) -> None:
    forked.git("checkout", "--quiet", "side")
    for seed in (11, 12):
        forked.write_model(seed=1, changed={ATTENTION[1]: seed})
        forked.commit(f"step {seed}")
    forked.git("checkout", "--quiet", "main")
    forked.git("merge", "--quiet", "--squash", "side")
    forked.git("commit", "--quiet", "--message", "squashed")
    forked.git("branch", "--quiet", "-D", "side")
    forget(forked)
    wanted = model(1, {ATTENTION[0]: 2, ATTENTION[1]: 12})
    forked.git("checkout", "--quiet", "base")
    assert forked.problems(MODEL, model(1)) == []
    forked.git("checkout", "--quiet", "main")
    assert forked.problems(MODEL, wanted) == []
    forked.git("theta", "fsck")


def test_rebase_and_gc_and_clone(forked: Repo, shared: Repo, tmp_path: Path) -> None:
    forked.git("checkout", "--quiet", "side")
    forked.git("rebase", "--quiet", "main")
    forked.git("branch", "--quiet", "-f", "main", "side")
    forget(forked)
    forked.git("push", "--quiet", "origin", "main")
    Repo(tmp_path).git("clone", "--quiet", str(shared.path), "clone")
    copy = Repo(tmp_path / "clone")
    assert copy.problems(MODEL, model(1, {ATTENTION[0]: 2, ATTENTION[1]: 3})) == []


def test_amend(two: Repo) -> None:
    two.write_model(seed=3)
    two.git("add", MODEL)
    two.git("commit", "--quiet", "--amend", "--no-edit")
    forget(two)
    two.git("checkout", "--quiet", "one")
    two.git("checkout", "--quiet", "main")
    assert two.problems(MODEL, model(3)) == []


def test_rewritten_history_pushed_by_force(two: Repo, shared: Repo, tmp_path: Path) -> None:
    two.git("push", "--quiet", "origin", "main")
    two.git("reset", "--quiet", "--hard", "one")
    two.write_model(seed=7)
    two.commit("another two")
    two.git("push", "--quiet", "--force", "origin", "main")
    Repo(tmp_path).git("clone", "--quiet", str(shared.path), "clone")
    assert Repo(tmp_path / "clone").problems(MODEL, model(7)) == []
