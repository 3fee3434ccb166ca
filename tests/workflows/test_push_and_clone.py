"""Push, clone, fetch and pull between repositories on this machine."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from helpers import ATTENTION, MODEL, Repo, model, needs_git, safetensors, tensors

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.portable


def clone(source: Repo, place: Path, *options: str) -> Repo:
    Repo(place.parent).git("clone", "--quiet", *options, str(source.path), place.name)
    return Repo(place)


def packs(repo: Repo) -> set[str]:
    store = repo.path / "theta" if (repo.path / "theta").is_dir() else repo.path / ".git" / "theta"
    return {path.name for path in (store / "packs").rglob("*") if path.is_file()}


def test_clone_with_global_configuration_only(two: Repo, shared: Repo, tmp_path: Path) -> None:
    two.git("push", "--quiet", "origin", "main", "one", "two")
    copy = clone(shared, tmp_path / "clone")
    assert copy.problems(MODEL, model(2)) == []
    copy.git("checkout", "--quiet", "one")
    assert copy.problems(MODEL, model(1)) == []


def test_clone_can_push_new_work_back(two: Repo, shared: Repo, tmp_path: Path) -> None:
    two.git("push", "--quiet", "origin", "main")
    copy = clone(shared, tmp_path / "clone")
    copy.write_model(seed=3)
    copy.commit("three", by_filter=True)
    copy.git("push", "--quiet", "origin", "main", "main:refs/heads/new")
    two.git("pull", "--quiet", "--ff-only", "origin", "main")
    assert two.problems(MODEL, model(3)) == []


def test_new_repository_with_global_configuration_only_pushes_what_git_add_stored(tmp_path: Path) -> None:
    Repo(tmp_path).git("theta", "install", "--global")
    Repo(tmp_path).git("init", "--quiet", "--bare", "shared.git")
    made = Repo(tmp_path / "made")
    Repo(tmp_path).git("init", "--quiet", "made")
    made.write(b"*.safetensors filter=theta diff=theta merge=theta -text\n", ".gitattributes")
    data = made.write_model(seed=1)
    made.commit("one", by_filter=True)
    made.git("push", "--quiet", "../shared.git", "main")
    assert clone(Repo(tmp_path / "shared.git"), tmp_path / "clone").problems(MODEL, data) == []


def test_clone_of_a_working_repository(two: Repo, shared: Repo, tmp_path: Path) -> None:
    assert shared.path.is_dir()
    copy = clone(two, tmp_path / "clone")
    assert copy.problems(MODEL, model(2)) == []


def test_pull_merges(forked: Repo, shared: Repo, tmp_path: Path) -> None:
    forked.git("push", "--quiet", "origin", "main", "side")
    copy = clone(shared, tmp_path / "clone")
    copy.git("pull", "--quiet", "--no-rebase", "origin", "side")
    assert copy.problems(MODEL, model(1, {ATTENTION[0]: 2, ATTENTION[1]: 3})) == []


@needs_git((2, 38), "safe.bareRepository")
def test_bare_repositories_may_have_to_be_named(two: Repo, shared: Repo, tmp_path: Path) -> None:
    two.git("config", "--global", "safe.bareRepository", "explicit")
    two.git("push", "--quiet", "origin", "main")
    copy = clone(shared, tmp_path / "clone")
    assert copy.problems(MODEL, model(2)) == []
    refused = shared.run("theta", "fsck", check=False)
    assert "hint: git --git-dir=DIRECTORY theta COMMAND" in refused.stderr
    shared.git("--git-dir=.", "theta", "fsck")


def test_shallow_clone(two: Repo, shared: Repo, tmp_path: Path) -> None:
    two.git("push", "--quiet", "origin", "main")
    Repo(tmp_path).git("clone", "--quiet", "--depth=1", f"file://{shared.path}", "shallow")
    copy = Repo(tmp_path / "shallow")
    assert copy.problems(MODEL, model(2)) == []
    for words in (("diff", "HEAD~1"), ("diff", "HEAD~1", "HEAD"), ("log", "HEAD~1")):
        refused = copy.run("theta", *words, check=False)
        assert (refused.returncode, "hint: git fetch --unshallow" in refused.stderr) == (3, True)
    copy.write_model(seed=3)
    copy.commit("three")
    copy.git("push", "--quiet", "origin", "main")


@pytest.fixture
def unrelated(two: Repo, shared: Repo) -> bytes:
    """Push ``main`` and a branch ``other`` whose model shares no bytes with it; returns that model."""
    data = safetensors(tensors(7), {"family": "another"})
    two.git("checkout", "--quiet", "-b", "other")
    two.write(data)
    two.commit("other")
    two.git("checkout", "--quiet", "main")
    two.git("push", "--quiet", "origin", "main", "other")
    return data


def test_clone_brings_only_what_the_checkout_needs(shared: Repo, unrelated: bytes, tmp_path: Path) -> None:
    copy = clone(shared, tmp_path / "clone")
    assert packs(copy) < packs(shared)
    copy.git("checkout", "--quiet", "other")
    assert copy.problems(MODEL, unrelated) == []


def test_tensors_that_the_remote_has_are_not_pushed_again(two: Repo, shared: Repo) -> None:
    two.git("push", "--quiet", "origin", "main")
    before = packs(shared)
    two.git("push", "--quiet", "origin", "main:again", "one")
    assert packs(shared) == before


def test_deleting_a_remote_branch(two: Repo, shared: Repo) -> None:
    two.git("push", "--quiet", "origin", "main", "main:gone")
    two.git("push", "--quiet", "origin", "--delete", "gone")
    assert shared.git("for-each-ref", "--format=%(refname)") == "refs/heads/main"


def test_push_fails_closed_when_a_pack_is_lost(two: Repo, shared: Repo) -> None:
    shutil.rmtree(two.path / ".git" / "theta" / "packs")
    (two.path / ".git" / "theta" / "index.sqlite3").unlink(missing_ok=True)
    done = two.run("push", "origin", "main", check=False)
    assert done.returncode != 0
    assert "error:" in done.stderr
    assert shared.git("for-each-ref") == ""


def test_push_of_a_raw_checkpoint_is_refused(two: Repo, shared: Repo) -> None:
    two.write_model("raw.safetensors", seed=4)
    two.git("-c", "filter.theta.process=", "-c", "filter.theta.required=false", "add", "raw.safetensors")
    two.git("commit", "--quiet", "--message", "raw")
    done = two.run("push", "origin", "main", check=False)
    assert done.returncode != 0
    assert "raw.safetensors" in done.stderr
    assert shared.git("for-each-ref") == ""


def test_checkout_without_the_remote_says_so_and_goes_on_later(shared: Repo, unrelated: bytes, tmp_path: Path) -> None:
    copy = clone(shared, tmp_path / "clone")
    hidden = shared.path.rename(tmp_path / "hidden.git")
    before = copy.read()
    failed = copy.run("checkout", "other", check=False)
    assert failed.returncode != 0
    assert "GIT_THETA_SKIP_SMUDGE=1" in failed.stderr
    assert copy.git("branch", "--show-current") == "main"
    copy.git("checkout", MODEL)  # git removes the old file before it asks for the new one
    assert copy.read() == before
    done = copy.run("-c", "theta.allowIncomplete=true", "checkout", "other")
    assert copy.read().startswith(b"git-theta manifest 1\n")
    assert "error:" in done.stderr
    assert "not all checkpoints were written" in done.stderr
    assert copy.run("theta", "status", "--exit-code", "--quiet", check=False).returncode == 1
    assert copy.run("theta", "status", "--quiet", check=False).returncode == 0
    assert copy.run("theta", "checkout", check=False).returncode == 9
    hidden.rename(shared.path)
    copy.git("theta", "checkout")
    assert copy.run("theta", "status", "--exit-code", "--quiet", check=False).returncode == 0
    assert copy.problems(MODEL, unrelated) == []


def test_clone_fails_if_the_remote_lacks_the_tensors_of_a_checkpoint(two: Repo, shared: Repo, tmp_path: Path) -> None:
    two.git("push", "--quiet", "--no-verify", "origin", "main")
    failed = Repo(tmp_path).run("clone", "--quiet", str(shared.path), "clone", check=False)
    assert failed.returncode != 0
    assert "not in the store" in failed.stderr
    assert "git theta push --all" in failed.stderr
    copy = Repo(tmp_path / "clone")
    two.git("theta", "push", "--all", "origin")
    done = copy.run("theta", "checkout")
    assert done.stdout == ""
    assert "the index is empty, but HEAD has 1 checkpoint" in done.stderr
    copy.git(*done.stderr.split("hint: git ")[1].split())
    assert copy.problems(MODEL, model(2)) == []


def test_a_clone_of_a_bundle_says_where_its_tensors_come_from(two: Repo, shared: Repo, tmp_path: Path) -> None:
    two.git("push", "--quiet", "origin", "main")
    two.git("bundle", "create", "--quiet", str(tmp_path / "a.bundle"), "main")
    clone = Repo(tmp_path / "clone")
    done = two.run("clone", "--quiet", "--branch", "main", str(tmp_path / "a.bundle"), str(clone.path), check=False)
    assert "a.bundle is a file, as that of git bundle, which has no tensors" in done.stderr
    assert "git remote set-url origin URL" in done.stderr
    clone.git("remote", "set-url", "origin", str(shared.path))
    clone.git("reset", "--quiet", "--hard")
    assert clone.read() == two.read()


def test_anonymous_remote(two: Repo, shared: Repo, tmp_path: Path) -> None:
    two.git("push", "--quiet", str(shared.path), "main")
    assert clone(shared, tmp_path / "clone").problems(MODEL, model(2)) == []


def test_override_of_the_remote_url(two: Repo, shared: Repo, tmp_path: Path) -> None:
    two.git("config", "theta.remote.origin.url", f"file://{tmp_path / 'elsewhere'}")
    two.git("push", "--quiet", "origin", "main")
    assert any((tmp_path / "elsewhere").rglob("packs"))
    assert not (shared.path / "theta" / "packs").exists()


def test_push_to_a_server_that_cannot_be_reached_is_refused(two: Repo) -> None:
    two.git("remote", "add", "web", "https://example.invalid/model.git")
    done = two.run(
        "theta",
        "hook",
        "pre-push",
        "web",
        "https://example.invalid/model.git",
        check=False,
        input=(f"refs/heads/main {two.git('rev-parse', 'main')} refs/heads/main {'0' * 40}\n"),
    )
    assert done.returncode != 0
    assert "hint: git ls-remote https://example.invalid/model.git" in done.stderr


def test_alternates_of_a_clone_with_reference(two: Repo, tmp_path: Path) -> None:
    two.git("theta", "install", "--global")
    copy = clone(two, tmp_path / "clone", "--shared")
    assert copy.problems(MODEL, model(2)) == []
    assert packs(copy) == set()


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_damaged_pack_on_the_remote_is_refused(two: Repo, shared: Repo, tmp_path: Path, damage: str) -> None:
    two.git("push", "--quiet", "origin", "main")
    for pack in [path for path in (shared.path / "theta" / "packs").rglob("*") if path.is_file()]:
        data = bytearray(pack.read_bytes())
        data[-1] ^= 1
        # A new file: the pack may be a hard link of the one in the store.
        pack.unlink()
        pack.write_bytes(data if damage == "flipped" else data[:-10])
    done = Repo(tmp_path).run("clone", str(shared.path), "clone", check=False)
    assert "error:" in done.stderr
    assert (tmp_path / "clone" / MODEL).read_bytes().startswith(b"git-theta manifest 1\n")
