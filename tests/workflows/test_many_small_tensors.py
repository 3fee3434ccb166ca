"""An adapter of many small tensors, which are stored as bundles, through all that git does with it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import MODEL, Repo, safetensors

from git_theta_ext.store.packs.reader import read_pack_header

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from helpers import WithHistory

    from git_theta_ext.store.packs.format import Entry

COUNT = 200
Values = dict[str, np.ndarray]


def drawn() -> Values:
    draw = np.random.default_rng(0)
    return {
        f"layers.{number // 2}.{'ab'[number % 2]}": draw.normal(0, 0.02, (4, 32 + 16 * (number % 2))).astype("<f4")
        for number in range(COUNT)
    }


def trained(values: Mapping[str, np.ndarray], numbers: Sequence[int], seed: int) -> Values:
    """Return an adapter of which some tensors have moved a little."""
    draw = np.random.default_rng(seed)
    moved = {list(values)[number] for number in numbers}
    return {
        name: value + draw.normal(0, 1e-5, value.shape).astype("<f4") if name in moved else value
        for name, value in values.items()
    }


def adapter(values: Mapping[str, np.ndarray]) -> bytes:
    return safetensors({name: ("F32", value.shape, value.tobytes()) for name, value in values.items()})


FIRST = drawn()
ALL = trained(FIRST, range(COUNT), 1)
TEN = trained(ALL, range(40, 50), 2)
HALF = trained(TEN, range(45, 145), 3)
VERSIONS = {"first": FIRST, "all": ALL, "ten": TEN, "half": HALF}


def _history(repo: Repo) -> None:
    for tag, values in VERSIONS.items():
        repo.write(adapter(values))
        repo.commit(tag)
        repo.git("tag", tag)


@pytest.fixture
def history(with_history: WithHistory) -> Repo:
    """Return a repository with all versions, tagged by their names."""
    return with_history(_history)


def entries(repo: Repo, folder: str = ".git/theta") -> list[Entry]:
    packs = (repo.path / folder / "packs").rglob("*")
    return [entry for path in packs if path.is_file() for entry in read_pack_header(path).entries]


def kinds(repo: Repo, folder: str = ".git/theta") -> list[str]:
    return sorted(entry.encoding for entry in entries(repo, folder) if entry.spec.dtype.name != "skeleton")


def check_versions(repo: Repo, **others: bytes) -> None:
    """Check out every version, and compare the file with what was committed."""
    for tag, data in {**{tag: adapter(values) for tag, values in VERSIONS.items()}, **others}.items():
        repo.switch(tag)
        assert repo.sha() == hashlib.sha256(data).hexdigest(), tag
    assert repo.git("status", "--porcelain") == ""


def check_shares(repo: Repo) -> None:
    """Check that the shares of encodings and parameters in what is stored are all of it."""
    usage = json.loads(repo.git("theta", "du", "--json"))
    for table in ("encodings", "groups", "parameters"):
        assert sum(row["stored"] for row in usage[table]) == usage["stored_bytes"]
        assert sum(row["raw"] for row in usage[table]) == usage["unique_bytes"]


def test_every_version_comes_back_after_gc_in_this_store(history: Repo) -> None:
    assert len(kinds(history)) == 3 + 10
    check_versions(history)
    check_shares(history)
    planned = json.loads(history.git("theta", "gc", "--dry-run", "--json"))
    before = sum(entry.stored for entry in entries(history))
    done = json.loads(history.git("theta", "gc", "--json"))
    assert planned["recoded"] == done["recoded"] != {}
    assert sum(entry.stored for entry in entries(history)) < 0.8 * before
    assert {"gathered", "part", "delta", "dense"} == set(kinds(history))
    history.git("theta", "fsck", "--full")
    check_versions(history)
    check_shares(history)
    history.git("theta", "gc", "--aggressive")
    history.git("theta", "fsck", "--full")
    check_versions(history)


def test_every_version_comes_from_a_remote(history: Repo, shared: Repo, tmp_path: Path) -> None:
    for tag in VERSIONS:  # each push sends deltas of what was pushed before
        history.git("push", "--quiet", "origin", f"{tag}~0:refs/heads/main", tag)
    assert [entry.encoding for entry in entries(shared, "theta") if entry.bundle].count("dense") == 1
    history.git("push", "--quiet", "origin", "main")
    Repo(tmp_path).git("clone", "--quiet", str(shared.path), "clone")
    clone = Repo(tmp_path / "clone")
    check_versions(clone)
    clone.git("theta", "fsck", "--full", "--remote")
    history.git("theta", "prune", "--verify")
    history.git("theta", "fsck", "--full")
    check_versions(history)


def test_some_parameters_are_fetched_with_what_they_are_stored_in(history: Repo, shared: Repo, tmp_path: Path) -> None:
    history.git("theta", "gc")
    history.git("push", "--quiet", "origin", "main", *VERSIONS)
    unread = {**os.environ, "GIT_THETA_SKIP_SMUDGE": "1"}
    Repo(tmp_path).git("clone", "--quiet", str(shared.path), "clone", env=unread)
    clone = Repo(tmp_path / "clone")
    planned = json.loads(clone.git("theta", "fetch", "--dry-run", "--json", "--param", "layers.22.*"))
    done = json.loads(clone.git("theta", "fetch", "--json", "--param", "layers.22.*"))
    assert done == {**planned, "dry_run": False}
    clone.git("theta", "fetch")
    clone.git("theta", "checkout")
    assert clone.problems(MODEL, adapter(HALF)) == []


def test_branches_are_merged_by_their_average(history: Repo) -> None:
    ours, theirs = trained(HALF, range(COUNT), 5), trained(HALF, range(20, COUNT), 6)
    history.git("checkout", "--quiet", "-b", "side")
    history.write(adapter(theirs))
    history.commit("side")
    history.git("checkout", "--quiet", "main")
    history.write(adapter(ours))
    history.commit("main")
    history.git("merge", "--quiet", "-s", "theta", "-X", "method=average", "side")
    mean = {
        name: ((ours[name].astype("f8") + theirs[name]) / 2).astype("<f4")
        if (theirs[name] != HALF[name]).any()
        else ours[name]
        for name in HALF
    }
    merged = history.read()
    assert merged == adapter(mean)
    history.git("tag", "merged")
    history.git("theta", "gc")
    history.git("theta", "fsck", "--full")
    check_versions(history, side=adapter(theirs), merged=merged)


@pytest.mark.usefixtures("shared")
def test_a_damaged_bundle_is_repaired_from_the_remote(history: Repo) -> None:
    history.git("push", "--quiet", "origin", "main", *VERSIONS)
    largest = max((history.path / ".git/theta/packs").rglob("*/*"), key=lambda path: path.stat().st_size)
    sound = largest.read_bytes()
    largest.chmod(0o644)
    largest.write_bytes(sound[:-50] + bytes(4) + sound[-46:])
    assert history.run("theta", "fsck", "--full", check=False).returncode
    repaired = history.git("theta", "fsck", "--full", "--repair").splitlines()
    assert [line for line in repaired if re.search(r" and \d+ more: from ", line)]
    assert len(repaired) < 20, "tensors of the same versions share a line"
    history.git("theta", "fsck", "--full")
    check_versions(history)


def test_gc_removes_most_of_a_bundle_of_which_a_commit_names_little(repo: Repo) -> None:
    repo.write(adapter(FIRST))
    repo.git("add", MODEL)
    few = dict(list(FIRST.items())[50:80])
    data = adapter(few)
    repo.write(data)
    repo.commit("few")
    repo.git("theta", "gc")  # the manifest that was added names everything
    repo.git("prune", "--expire=now")
    before = json.loads(repo.git("theta", "du", "--json"))["disk"]
    assert before["unreachable"] == pytest.approx((1 - 30 / COUNT) * (before["unreachable"] + before["live"]), rel=0.2)
    assert json.loads(repo.git("theta", "gc", "--dry-run", "--json"))["shrunk"] == 1
    assert json.loads(repo.git("theta", "gc", "--json"))["shrunk"] == 1
    assert len(members(repo, ".git/theta")) == COUNT + 2  # for the time of grace
    planned = json.loads(repo.git("theta", "gc", "--dry-run", "--json", "--grace", "0"))
    done = json.loads(repo.git("theta", "gc", "--json", "--grace", "0"))
    assert planned["store_bytes"][1] == pytest.approx(done["store_bytes"][1], rel=0.05)
    assert members(repo, ".git/theta") == named(repo, "main")
    after = json.loads(repo.git("theta", "du", "--json"))["disk"]
    assert after["unreachable"] == 0
    assert after["live"] == pytest.approx(before["live"], rel=0.05)
    repo.git("theta", "fsck", "--full")
    (repo.path / MODEL).unlink()
    repo.git("checkout", "--", MODEL)
    assert repo.problems(MODEL, data) == []
    assert json.loads(repo.git("theta", "gc", "--json"))["removed_bytes"] == 0


@pytest.mark.usefixtures("shared")
def test_prune_keeps_the_needed_tensors_of_a_bundle_that_the_remote_has(history: Repo) -> None:
    few = {**dict(list(FIRST.items())[50:80]), "new": np.ones((3, 4), "<f4")}
    history.write(adapter(few))
    history.commit("few")
    history.git("push", "--quiet", "origin", "main", *VERSIONS)
    planned = json.loads(history.git("theta", "prune", "--dry-run", "--json"))
    done = json.loads(history.git("theta", "prune", "--json"))
    assert planned["shrunk"] == done["shrunk"] == 1
    assert done["bytes"] == pytest.approx(planned["bytes"], rel=0.05)
    assert done["unverified"] == []
    assert members(history, ".git/theta") == named(history, "main")
    history.git("theta", "fsck", "--full")
    assert json.loads(history.git("theta", "prune", "--json"))["bytes"] == 0
    check_versions(history, main=adapter(few))


@pytest.mark.usefixtures("shared")
def test_prune_removes_bundles_whose_tensors_the_remote_has_in_others(repo: Repo) -> None:
    first = added_twice(repo)  # the remote gets bundles without what was never committed
    repo.git("branch", "first")
    second = trained(first, range(0, COUNT, 3), 8)
    repo.write(adapter(second))
    repo.commit("second")
    repo.git("push", "--quiet", "origin", "main", "first")
    repo.git("theta", "gc")
    last = adapter({"new": np.ones((3, 4), "<f4")})
    repo.write(last)
    repo.commit("last")
    repo.git("push", "--quiet", "origin", "main")
    repo.git("prune", "--expire=now")
    repo.git("theta", "prune", "--json")
    never = members(repo, ".git/theta") - named(repo, "main", "main~1", "first")
    assert len(never) == 20
    assert members(repo, ".git/theta") == named(repo, "main") | never
    repo.git("theta", "fsck", "--full")
    for rev, data in {"first": adapter(first), "main~1": adapter(second), "main": last}.items():
        repo.git("checkout", "--quiet", rev)
        assert repo.problems(MODEL, data) == []


def named(repo: Repo, *revs: str) -> set[str]:
    """Return the digests that manifests of some commits name."""
    return {word for rev in revs for word in repo.git("show", f"{rev}:{MODEL}").split() if len(word) == 64}


def members(repo: Repo, folder: str) -> set[str]:
    """Return the digests of all tensors in the packs of a repository, in bundles and alone."""
    found = {entry.digest for entry in entries(repo, folder) if entry.bundle is None}
    bundles = (entry.bundle for entry in entries(repo, folder) if entry.bundle is not None)
    return found.union(digest for bundle in bundles for _, _, digest in bundle.members())


def added_twice(repo: Repo) -> Values:
    """Commit an adapter of which an earlier state was added, and never committed; return what was committed."""
    repo.write(adapter(FIRST))
    repo.git("add", MODEL)
    seconds = trained(FIRST, range(60, 80), 7)
    repo.write(adapter(seconds))
    repo.commit("first")
    return seconds


@pytest.mark.parametrize("recoded", [False, True])
def test_a_push_sends_no_tensors_of_a_bundle_that_its_commits_do_not_name(
    repo: Repo, shared: Repo, tmp_path: Path, *, recoded: bool
) -> None:
    seconds = added_twice(repo)
    repo.git("checkout", "--quiet", "-b", "private")
    repo.write(adapter(trained(seconds, range(0, COUNT, 2), 8)))
    repo.commit("private")
    repo.git("checkout", "--quiet", "main")
    thirds = trained(seconds, range(COUNT), 9)
    repo.write(adapter({**thirds, "late": np.ones((3, 4), "<f4")}))
    repo.commit("second")
    if recoded:
        repo.git("theta", "gc")
    repo.git("push", "--quiet", "origin", "main")
    assert named(repo, "main", "main~1") == members(shared, "theta")
    Repo(tmp_path).git("clone", "--quiet", str(shared.path), "clone")
    clone = Repo(tmp_path / "clone")
    assert clone.problems(MODEL, adapter({**thirds, "late": np.ones((3, 4), "<f4")})) == []
    clone.git("checkout", "--quiet", "main~1")
    assert clone.problems(MODEL, adapter(seconds)) == []
    repo.git("theta", "gc")
    repo.git("push", "--quiet", "origin", "private")
    clone.git("fetch", "--quiet")
    clone.git("checkout", "--quiet", "private")
    assert clone.problems(MODEL, adapter(trained(seconds, range(0, COUNT, 2), 8))) == []


@pytest.mark.usefixtures("shared")
def test_a_dry_run_of_a_push_counts_the_tensors_of_a_bundle_that_it_sends(repo: Repo) -> None:
    repo.write(adapter(FIRST))
    repo.git("add", MODEL)
    repo.write(adapter(dict(list(FIRST.items())[50:80])))
    repo.commit("few")
    (planned,) = json.loads(repo.git("theta", "push", "--dry-run", "--json", "origin"))["remotes"]
    (done,) = json.loads(repo.git("theta", "push", "--json", "origin"))["remotes"]
    assert planned["bytes"] == pytest.approx(done["bytes"], rel=0.2)


def test_a_push_sends_deltas_of_what_remains_of_a_bundle(repo: Repo, shared: Repo) -> None:
    seconds = added_twice(repo)
    repo.git("push", "--quiet", "origin", "main")
    repo.write(adapter(trained(seconds, range(COUNT), 9)))
    repo.commit("second")
    repo.git("push", "--quiet", "origin", "main")
    assert kinds(shared, "theta").count("delta") == 1
    assert [entry.encoding for entry in entries(shared, "theta") if entry.bundle].count("dense") == 2
