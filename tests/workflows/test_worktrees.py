"""Linked worktrees, sparse checkouts, submodules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers import ATTENTION, MODEL, Repo, model

if TYPE_CHECKING:
    from pathlib import Path


def test_worktree_add_writes_the_file(two: Repo, tmp_path: Path) -> None:
    two.git("worktree", "add", "--quiet", str(tmp_path / "linked"), "one")
    assert Repo(tmp_path / "linked").problems(MODEL, model(1)) == []
    # Its file is as young as its index, so git itself reads it once more.
    assert two.read() == model(2)
    assert two.git("status", "--porcelain") == ""


def test_checkout_in_a_linked_worktree(two: Repo, tmp_path: Path) -> None:
    two.git("worktree", "add", "--quiet", str(tmp_path / "linked"), "one")
    linked = Repo(tmp_path / "linked")
    linked.git("checkout", "--quiet", "two")
    assert linked.problems(MODEL, model(2)) == []


def test_linked_worktree_shares_the_store(two: Repo, tmp_path: Path) -> None:
    two.git("worktree", "add", "--quiet", "-b", "new", str(tmp_path / "linked"))
    linked = Repo(tmp_path / "linked")
    linked.write_model(seed=3)
    linked.commit("three", by_filter=True)
    assert not (two.path / ".git" / "worktrees" / "linked" / "theta" / "packs").exists()
    two.git("worktree", "remove", str(linked.path))
    two.git("checkout", "--quiet", "new")
    assert two.problems(MODEL, model(3)) == []


def test_a_bare_repository_with_a_linked_worktree_needs_what_no_remote_has(two: Repo, tmp_path: Path) -> None:
    two.git("clone", "--quiet", "--bare", str(two.path), str(tmp_path / "bare"))
    bare = Repo(tmp_path / "bare")
    bare.git("theta", "install", "--local")
    assert bare.run("theta", "fsck", check=False).returncode == 7  # clones of it would lack everything
    bare.git("worktree", "add", "--no-checkout", "--quiet", "../linked", "main")
    assert bare.git("theta", "fsck") == "2 versions of checkpoints, no problems"
    (two.path / ".git/theta").rename(two.path / "lost")
    assert bare.run("theta", "fsck", check=False).returncode == 7


def test_sparse_checkout_disabled_again_writes_the_file(two: Repo) -> None:
    two.write(b"text", "docs/readme.txt")
    two.write_model("models/inner.safetensors", seed=5)
    two.commit("more")
    two.git("sparse-checkout", "set", "docs")
    assert not (two.path / "models").exists()
    two.git("sparse-checkout", "disable")
    assert two.problems("models/inner.safetensors", model(5)) == []
    assert two.problems(MODEL, model(2)) == []


def test_sparse_checkout_adds_a_folder(two: Repo) -> None:
    two.write_model("models/inner.safetensors", seed=5)
    two.commit("more")
    two.git("sparse-checkout", "set", "--no-cone", "/*", "!models")
    two.git("checkout", "--quiet", "one")
    assert two.problems(MODEL, model(1)) == []
    two.git("checkout", "--quiet", "main")
    two.git("sparse-checkout", "set", "--no-cone", "/*")
    assert two.problems("models/inner.safetensors", model(5)) == []


def test_checkout_that_recurses_into_submodules_writes_their_files(two: Repo, tmp_path: Path) -> None:
    outer = Repo(tmp_path / "outer")
    outer.path.mkdir()
    outer.git("theta", "install", "--global")
    outer.git("init", "--quiet")
    outer.git("submodule", "--quiet", "add", str(two.path), "weights")
    inner = Repo(outer.path / "weights")
    outer.commit("of two")
    inner.git("checkout", "--quiet", "one")
    outer.commit("of one")
    outer.git("checkout", "--quiet", "--recurse-submodules", "HEAD~1")
    assert inner.problems(MODEL, model(2)) == []
    outer.git("reset", "--quiet", "--hard", "--recurse-submodules", "main")
    assert inner.problems(MODEL, model(1)) == []


def test_git_dir_and_work_tree_are_named_on_the_command_line(two: Repo, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (two.path / ".git").rename(tmp_path / "elsewhere.git")
    two.path.joinpath(MODEL).rename(tmp_path / "tree" / MODEL)
    there = Repo(tmp_path / "tree")
    place = ("--git-dir=../elsewhere.git", "--work-tree=.")
    there.git(*place, "checkout", "--quiet", "--force", "one")
    assert there.read() == model(1)
    assert there.git(*place, "status", "--porcelain") == ""
    assert there.git(*place, "theta", "status") == "nothing changed and nothing is pending"
    assert "14 modified" in there.git(*place, "diff", "one", "two")
    there.write_model(seed=1, changed={ATTENTION[0]: 3})
    assert "1 modified" in there.git(*place, "theta", "status")
    there.git(*place, "checkout", "--quiet", "-b", "side")
    there.git(*place, "add", MODEL)
    there.git(*place, "commit", "--quiet", "--message", "side")
    there.git(*place, "checkout", "--quiet", "-b", "other", "one")
    there.write_model(seed=1, changed={ATTENTION[1]: 4})
    there.git(*place, "theta", "add", MODEL)
    there.git(*place, "commit", "--quiet", "--message", "other")
    there.git(*place, "merge", "--quiet", "side")
    assert there.read() == model(1, {ATTENTION[0]: 3, ATTENTION[1]: 4})
    # From another folder, as tools do that keep a repository apart from its files.
    two.git("--git-dir=../elsewhere.git", "--work-tree=../tree", "checkout", "--quiet", "main")
    assert there.read() == model(2)
    assert two.git("--git-dir=../elsewhere.git", "theta", "fsck") == "5 versions of checkpoints, no problems"


def test_submodule_has_a_store_of_its_own(two: Repo, tmp_path: Path) -> None:
    outer = Repo(tmp_path / "outer")
    outer.path.mkdir()
    outer.git("theta", "install", "--global")
    outer.git("init", "--quiet")
    outer.git("submodule", "--quiet", "add", str(two.path), "weights")
    inner = Repo(outer.path / "weights")
    assert inner.problems(MODEL, model(2)) == []
    assert (outer.path / ".git" / "modules" / "weights" / "theta").is_dir()
