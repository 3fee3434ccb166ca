"""Dropping parameters that a remote holds, and getting them back."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from helpers import ATTENTION, EMBEDDING, MODEL, Repo, model

if TYPE_CHECKING:
    from pathlib import Path


def packs(repo: Repo, folder: str = ".git/theta") -> set[str]:
    return {path.name for path in (repo.path / folder / "packs").rglob("*") if path.is_file()}


def prune(repo: Repo, *options: str) -> dict[str, object]:
    return json.loads(repo.git("theta", "prune", "--json", *options))


@pytest.fixture
def three(two: Repo, shared: Repo) -> Repo:
    """Return ``two`` with a third version; all three are pushed."""
    two.write_model(seed=3)
    two.commit("three")
    two.git("push", "--quiet", "origin", "main", "one", "two")
    assert packs(two) <= packs(shared, "theta")
    return two


def test_old_versions_go_and_come_back(three: Repo) -> None:
    before = packs(three)
    result = prune(three)
    assert before - packs(three) == set(result["dropped"])
    assert len(result["dropped"]) == 2
    assert result["unverified"] == []
    three.git("theta", "fsck", "--full")
    for tag, seed in (("one", 1), ("two", 2), ("main", 3)):
        three.git("checkout", "--quiet", tag)
        assert three.problems(MODEL, model(seed)) == []
    assert packs(three) == before


def test_a_dry_run_drops_nothing(three: Repo) -> None:
    before = packs(three)
    assert len(prune(three, "--dry-run")["would_drop"]) == 2
    assert packs(three) == before


def test_a_second_run_finds_nothing(three: Repo) -> None:
    prune(three)
    assert prune(three)["dropped"] == []


def test_what_is_not_pushed_stays(two: Repo, shared: Repo) -> None:
    two.git("push", "--quiet", "origin", "one:refs/heads/old")
    two.write_model(seed=3)
    two.commit("three")
    prune(two)
    hidden = shared.path.rename(shared.path.with_name("hidden"))
    assert hidden.is_dir()
    two.git("checkout", "--quiet", "two")
    assert two.problems(MODEL, model(2)) == []
    two.git("checkout", "--quiet", "main")
    assert two.problems(MODEL, model(3)) == []


def test_staged_and_stashed_work_stays(three: Repo) -> None:
    three.write_model(seed=4)
    three.git("stash", "--quiet")
    three.write_model(seed=5)
    three.git("add", MODEL)
    prune(three)
    three.git("theta", "fsck", "--full")
    three.git("remote", "remove", "origin")
    three.git("commit", "--quiet", "--message", "five")
    three.git("checkout", "--quiet", "stash@{0}")
    assert three.problems(MODEL, model(4)) == []


def test_other_work_trees_keep_what_they_have(three: Repo, tmp_path: Path) -> None:
    three.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"), "one")
    staged = Repo(tmp_path / "staged")
    three.git("worktree", "add", "--quiet", "--detach", str(staged.path), "main")
    staged.git("checkout", "--quiet", "two", "--", MODEL)
    assert prune(three)["dropped"] == []


def test_without_a_remote_nothing_is_dropped(two: Repo) -> None:
    before = packs(two)
    done = two.run("theta", "prune", check=False)
    assert done.returncode == 2
    assert "hint: git remote add" in done.stderr
    assert packs(two) == before


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_what_the_remote_lost_stays(three: Repo, shared: Repo, damage: str) -> None:
    for path in [path for path in (shared.path / "theta" / "packs").rglob("*") if path.is_file()]:
        data = path.read_bytes()
        path.unlink()
        if damage == "cut":
            path.write_bytes(data[:-1])
    before = packs(three)
    result = prune(three)
    assert result["dropped"] == []
    assert len(result["unverified"]) == 2
    assert packs(three) == before


def test_a_remote_with_flipped_bits_is_found_by_verify(three: Repo, shared: Repo) -> None:
    for path in [path for path in (shared.path / "theta" / "packs").rglob("*") if path.is_file()]:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.unlink()
        path.write_bytes(data)
    assert prune(three, "--verify")["dropped"] == []
    three.git("theta", "fsck", "--full")


def test_a_remote_out_of_reach_drops_nothing(three: Repo, shared: Repo) -> None:
    shared.path.rename(shared.path.with_name("hidden"))
    before = packs(three)
    assert three.run("theta", "prune", check=False).returncode == 9
    assert packs(three) == before


def test_a_remote_that_is_this_very_store_is_refused(three: Repo, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(three.path / ".git" / "theta")
    for url in (three.path / ".git" / "theta", tmp_path / "link"):
        three.git("config", "theta.remote.origin.url", str(url))
        done = three.run("theta", "prune", check=False)
        assert done.returncode == 2
        assert "in the store of this repository" in done.stderr
    three.git("theta", "fsck", "--full")


def test_another_remote_can_be_named(three: Repo, tmp_path: Path) -> None:
    three.git("init", "--quiet", "--bare", str(tmp_path / "second.git"))
    three.git("remote", "add", "second", str(tmp_path / "second.git"))
    assert prune(three, "--remote", "second")["dropped"] == []
    three.git("push", "--quiet", "second", "main")
    assert len(prune(three, "--remote", "second")["dropped"]) == 2
    done = three.run("theta", "prune", "--remote", "third", check=False)
    assert (done.returncode, "there is no remote 'third'" in done.stderr) == (2, True)


def test_recent_versions_can_be_kept(three: Repo) -> None:
    assert prune(three, "--keep-recent", "1")["dropped"] == []
    assert three.run("theta", "prune", "--keep-recent", "x", check=False).returncode == 2


def test_an_unfinished_merge_keeps_both_sides(forked: Repo, shared: Repo) -> None:
    assert shared.path.is_dir()
    forked.write_model(seed=1, changed={ATTENTION[1]: 9, EMBEDDING: 9})
    forked.commit("both")
    forked.git("push", "--quiet", "origin", "main", "side")
    forked.run("-c", "theta.merge.method=conflict", "merge", "side", check=False)
    prune(forked)
    forked.git("remote", "remove", "origin")
    forked.git("theta", "resolve", "--method", "theirs", MODEL)
    forked.git("commit", "--quiet", "--no-edit")
    assert forked.problems(MODEL, model(1, {ATTENTION[1]: 3, EMBEDDING: 9})) == []


def test_what_is_needed_is_copied_out_of_packs_that_are_not(three: Repo) -> None:
    three.git("checkout", "--quiet", "-b", "frozen", "one")
    content = bytearray(three.read())
    content[-1] ^= 1  # only the last tensor of the first version changes
    three.write(bytes(content))
    three.commit("frozen")
    three.git("push", "--quiet", "origin", "frozen")
    content[-100_000:] = bytes(100_000)  # and now half of them
    three.write(bytes(content))
    three.commit("more")
    three.git("push", "--quiet", "origin", "frozen")
    before = packs(three)
    dry = prune(three, "--dry-run")
    assert packs(three) == before
    result = prune(three)
    assert len(result["copied"]) == len(dry["would_copy"]) > 0
    assert result["bytes"] == dry["bytes"]
    assert not set(result["copied"]) & packs(three)
    (three.path / MODEL).unlink()
    three.git("checkout", "--", MODEL)
    assert three.read() == bytes(content)
    assert prune(three)["copied"] == []
    three.git("checkout", "--quiet", "one")
    assert three.problems(MODEL, model(1)) == []
    three.git("theta", "fsck", "--full")


def test_what_came_by_ranges_goes_after_a_check_of_every_byte(two: Repo, shared: Repo, tmp_path: Path) -> None:
    nbytes = 1 << 20
    places = {f"w{n}": [n * nbytes, (n + 1) * nbytes] for n in range(8)}
    header = json.dumps({w: {"dtype": "U8", "shape": [nbytes], "data_offsets": at} for w, at in places.items()})
    two.write(len(header).to_bytes(8, "little") + header.encode() + os.urandom(8 * nbytes))
    two.commit("large")
    two.git("push", "--quiet", "origin", "main")
    Repo(tmp_path).git("clone", "--quiet", str(shared.path), "clone", env={**os.environ, "GIT_THETA_SKIP_SMUDGE": "1"})
    copy = Repo(tmp_path / "clone")
    copy.git("theta", "fetch", "--param", "w3")
    copy.git("checkout", "--quiet", "HEAD~1")
    (part,) = packs(copy) - packs(shared, "theta")
    done = copy.run("theta", "prune")
    assert part in packs(copy)
    assert "origin lists the content of 1 pack that cannot be compared; git theta prune --verify" in done.stderr
    done = copy.run("theta", "prune", "--verify")
    assert part not in packs(copy)
    assert "cannot be compared" not in done.stderr
