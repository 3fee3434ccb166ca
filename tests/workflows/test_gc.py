"""``git theta gc``: history takes little room, everything comes back, and only what nobody needs goes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import training
from helpers import MODEL, Repo

from git_theta_ext.store.deltas.chains import depths, smallest
from git_theta_ext.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

LONG_AGO = 1_000_000_000

Files = dict[str, bytes]


def gc(repo: Repo, *args: str) -> dict[str, Any]:
    """Collect, and return what it says."""
    result = json.loads(repo.git("theta", "gc", "--json", *args))
    assert isinstance(result, dict)
    return result


def theta(repo: Repo) -> Path:
    return (repo.path / repo.git("rev-parse", "--git-common-dir")).resolve() / "theta"


def packs(repo: Repo) -> dict[str, Path]:
    return {path.name: path for path in (theta(repo) / "packs").rglob("*") if path.is_file()}


def stored(repo: Repo) -> int:
    return sum(path.stat().st_size for path in packs(repo).values())


def age(repo: Repo) -> None:
    for path in packs(repo).values():
        os.utime(path, (LONG_AGO, LONG_AGO))


def depth(repo: Repo) -> int:
    """Return the length of the longest chain, as it is stored."""
    store = Store(theta(repo))
    found = max(depths(smallest(store.index.all_locations())).values(), default=0)
    store.close()
    return found


def forget(repo: Repo) -> None:
    """Remove from git what no branch and no tag reaches."""
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("gc", "--quiet", "--prune=now")


class History:
    """Commits, and the files that each of them holds."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self.files: dict[str, Files] = {}

    def commit(self, **models: training.Model | None) -> str:
        """Commit models by file name without its ending; None removes a file."""
        for name, model in models.items():
            path = f"{name}.safetensors"
            if model is None:
                (self.repo.path / path).unlink()
            else:
                self.repo.write(training.saved(model), path)
        return self.note(self.repo.commit("a step"))

    def note(self, commit: str) -> str:
        """Remember what a commit holds that was just made."""
        self.files[commit] = {path.name: path.read_bytes() for path in self.repo.path.glob("*.safetensors")}
        return commit

    def differing(self) -> list[str]:
        """Return the commits that do not come back to the byte, as a checkout would write them."""
        return training.differing(self.repo, self.files)

    def differing_in(self, copy: Repo) -> list[str]:
        """Return the commits whose checkout in a clone brings other bytes."""
        wrong = []
        for commit, files in self.files.items():
            copy.git("checkout", "--quiet", "--detach", commit)
            if files != {path.name: path.read_bytes() for path in copy.path.glob("*.safetensors")}:
                wrong.append(commit)
        return wrong


@pytest.fixture
def history(repo: Repo) -> History:
    return History(repo)


STEPS = 5


def fine_tuned(history: History) -> None:
    """Commit a model and what it was after some more steps each time."""
    model = training.fresh()
    for step in range(STEPS):
        history.commit(model=model)
        model = training.trained(model, step)


def eventful(history: History) -> None:
    """Commit all that may happen to a model."""
    model = training.fresh(1)
    history.commit(model=model)
    model = training.trained(model, 1)
    history.commit(model=model)
    model = training.trained(model, 2, only=["layers.2"])  # the rest is frozen
    history.commit(model=model)
    history.repo.git("mv", MODEL, "renamed.safetensors")
    model = training.trained(model, 3)
    history.commit(renamed=model)
    model = training.grown(training.trained(model, 4))
    history.commit(renamed=model)
    model = training.adapted(model, "layers.0.mlp.weight", 5)
    history.commit(renamed=model)
    model = training.wrapped(training.trained(model, 6))
    history.commit(renamed=model)
    model = training.trained(model, 7)
    shards = [{n: t for n, t in model.items() if ("layers" in n) == inside} for inside in (True, False)]
    history.commit(renamed=None, one=shards[0], two=shards[1])
    history.commit(two=training.cast(shards[1], "F32"), one=training.cast(shards[0], "F32"))
    history.commit(two=training.trained(training.cast(shards[1], "F32"), 8, size=1e-6))
    history.repo.switch("-b", "side", "HEAD~1")
    history.commit(one=training.trained(shards[0], 9))
    history.repo.switch("main")
    history.repo.git("merge", "--quiet", "side")
    history.note(history.repo.git("rev-parse", "HEAD"))


Make = Callable[[Callable[[History], object]], History]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Files]]]:
    """Return where histories are kept that several tests begin with, and what their commits hold."""
    return tmp_path_factory.mktemp("histories"), {}


@pytest.fixture
def begin(history: History, made: tuple[Path, dict[str, dict[str, Files]]]) -> Make:
    """Return a function that gives the repository a history, which is made once and copied from then on."""
    place, known = made

    def fill(make: Callable[[History], object]) -> History:
        name = make.__name__
        if name not in known:
            make(history)
            shutil.copytree(history.repo.path, place / name, symlinks=True)
            known[name] = dict(history.files)
        else:
            shutil.rmtree(history.repo.path)
            shutil.copytree(place / name, history.repo.path, symlinks=True)
            history.repo.git("update-index", "-q", "--refresh")
            history.files.update(known[name])
        return history

    return fill


def test_fine_tuning_takes_less_than_half_the_room_and_comes_back(begin: Make) -> None:
    history = begin(fine_tuned)
    before = stored(history.repo)
    result = gc(history.repo)
    assert stored(history.repo) < 0.5 * before
    assert result["store_bytes"] == [before, stored(history.repo)]
    assert result["recoded"]["tensors"] == {"delta": 7 * (STEPS - 1)}
    assert depth(history.repo) <= 4
    assert history.differing() == []
    history.repo.git("theta", "fsck", "--full")


@pytest.mark.parametrize("options", [(), ("--aggressive",)], ids=["plain", "aggressive"])
def test_whatever_happened_to_a_model_every_version_comes_back(begin: Make, options: tuple[str, ...]) -> None:
    history = begin(eventful)
    before = stored(history.repo)
    result = gc(history.repo, *options)
    assert stored(history.repo) < 0.66 * before
    assert set(result["recoded"]["tensors"]) >= {"delta", "low_rank"}
    assert depth(history.repo) <= 4
    assert history.differing() == []
    history.repo.git("theta", "fsck", "--full")


def test_a_second_collection_changes_nothing(begin: Make) -> None:
    history = begin(eventful)
    gc(history.repo)
    before = packs(history.repo)
    result = gc(history.repo)
    assert (result["recoded"]["tensors"], result["redundant"], result["dead"], result["repacked"]) == ({}, [], [], 0)
    assert packs(history.repo) == before


def test_collecting_after_every_commit_keeps_chains_short(history: History) -> None:
    model = training.fresh(1, layers=1)
    for step in range(7):
        history.commit(model=model)
        gc(history.repo)
        assert depth(history.repo) <= 4
        model = training.trained(model, step)
    gc(history.repo, "--aggressive")
    assert depth(history.repo) <= 4
    assert history.differing() == []


def test_chains_are_as_deep_as_the_setting_says(begin: Make) -> None:
    history = begin(fine_tuned)
    history.repo.git("config", "theta.chainDepth", "1")
    gc(history.repo)
    assert depth(history.repo) == 1
    history.repo.git("config", "theta.chainDepth", "0")
    assert gc(history.repo)["recoded"]["tensors"] == {}
    assert depth(history.repo) == 1
    assert set(gc(history.repo, "--aggressive")["recoded"]["tensors"]) == {"dense"}
    assert depth(history.repo) == 0
    assert history.differing() == []


def tree(repo: Repo) -> dict[str, tuple[int, int]]:
    """Return size and time of every file of the store but its index, which is only derived, and its locks."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in theta(repo).rglob("*")
        if path.is_file() and not path.name.startswith("index.sqlite3") and path.suffix != ".lock"
    }


def test_a_dry_run_changes_nothing_and_says_what_would_happen(begin: Make) -> None:
    history = begin(fine_tuned)
    history.commit(model=None, other=training.fresh(7))
    before = tree(history.repo)
    would = gc(history.repo, "--dry-run")
    assert would["dry_run"] is True
    assert tree(history.repo) == before
    assert f"would recode {7 * (STEPS - 1)} tensors" in history.repo.git("theta", "gc", "--dry-run")
    assert tree(history.repo) == before
    did = gc(history.repo)
    assert did["dry_run"] is False
    assert would["recoded"] == did["recoded"]
    saved = would["recoded"]["before"] - would["recoded"]["after"]
    assert saved == pytest.approx(did["store_bytes"][0] - did["store_bytes"][1], rel=0.1)
    assert set(would["redundant"]) == set(did["redundant"])
    assert would["store_bytes"] == [did["store_bytes"][0], pytest.approx(did["store_bytes"][1], rel=0.1)]


def test_tensors_of_an_amended_commit_stay_while_git_has_its_manifest(history: History) -> None:
    repo = history.repo
    history.commit(model=training.fresh(1))
    repo.write(training.saved(training.fresh(2)))
    lost = repo.commit("wrong")
    repo.write(training.saved(training.fresh(3)))
    repo.git("add", "--all")
    repo.git("commit", "--quiet", "--amend", "--message", "right")
    history.note(repo.git("rev-parse", "HEAD"))
    age(repo)
    before = packs(repo)
    assert gc(repo, "--grace", "0")["dead"] == []
    assert packs(repo) == before
    repo.git("checkout", "--quiet", lost)
    assert repo.read() == training.saved(training.fresh(2))
    repo.git("checkout", "--quiet", "main")

    forget(repo)
    assert gc(repo)["dead"] == []  # asked for a moment ago
    age(repo)
    result = gc(repo)
    assert set(result["dead"]) == set(before) - set(packs(repo)) != set()
    assert history.differing() == []
    repo.git("theta", "fsck", "--full")


def test_what_is_staged_or_only_in_the_work_tree_of_another_branch_stays(history: History, tmp_path: Path) -> None:
    repo = history.repo
    history.commit(model=training.fresh(1))
    repo.git("worktree", "add", "--quiet", "-b", "other", str(tmp_path / "linked"))
    linked = Repo(tmp_path / "linked")
    linked.write(training.saved(training.fresh(2)))
    linked.git("add", "--all")
    repo.write(training.saved(training.fresh(3)))
    repo.git("add", "--all")
    forget(repo)
    for place in (repo, linked):
        age(repo)
        assert gc(place, "--grace", "0")["dead"] == []
    for place, seed in ((repo, 3), (linked, 2)):
        place.git("commit", "--quiet", "--message", "staged")
        (place.path / MODEL).unlink()
        place.git("checkout", "--", MODEL)
        assert place.read() == training.saved(training.fresh(seed))
    assert history.differing() == []


def test_what_was_added_again_a_moment_ago_stays_although_git_does_not_know_it_yet(history: History) -> None:
    repo = history.repo
    history.commit(model=training.fresh(1))
    data = training.saved(training.fresh(2))
    repo.write(data)
    repo.git("add", "--all")
    repo.git("reset", "--quiet", "--hard")
    forget(repo)
    age(repo)
    repo.write(data, "again.safetensors")
    stored_before = stored(repo)
    repo.git("add", "again.safetensors")
    assert stored(repo) == stored_before
    repo.git("reset", "--quiet", "--hard")
    forget(repo)
    result = gc(repo)
    assert result["dead"] == []
    assert result["kept_for_grace_bytes"] > 0.4 * stored_before
    age(repo)
    assert gc(repo)["dead"] != []


def test_a_shared_clone_reads_from_what_it_borrows_and_never_deletes_there(begin: Make, tmp_path: Path) -> None:
    history = begin(fine_tuned)
    lender, model = history.repo, training.trained(training.fresh(), 40)
    lender.git("theta", "install", "--global")
    lender.git("clone", "--quiet", "--shared", str(lender.path), str(tmp_path / "borrower"))
    borrower = Repo(tmp_path / "borrower")
    for step in range(2):
        borrower.write(training.saved(model))
        borrower.commit("mine")
        model = training.trained(model, 50 + step)
    own = stored(borrower)
    age(lender)
    before = tree(lender)
    age(borrower)
    result = gc(borrower, "--grace", "0", "--aggressive")
    assert stored(borrower) < own
    assert result["recoded"]["tensors"] == {"delta": 14}
    assert tree(lender).keys() == before.keys()
    assert [size for size, _ in tree(lender).values()] == [size for size, _ in before.values()]
    borrower.git("theta", "fsck", "--full")
    gc(lender)
    borrower.git("theta", "fsck", "--full")
    assert history.differing_in(borrower) == []
    assert history.differing() == []


def test_nothing_that_a_partial_clone_left_behind_is_fetched(begin: Make, tmp_path: Path) -> None:
    history = begin(fine_tuned)
    lender = history.repo
    lender.git("config", "uploadpack.allowFilter", "true")
    lender.git("theta", "install", "--global")
    lender.git("clone", "--quiet", "--filter=blob:none", lender.path.as_uri(), str(tmp_path / "partial"))
    partial = Repo(tmp_path / "partial")
    missing = ("rev-list", "--objects", "--all", "--missing=print")
    before = partial.git(*missing)
    assert before.count("?") == STEPS - 1  # every version but the one that was checked out
    gc(partial, "--aggressive")
    assert "1 version of" in partial.git("theta", "fsck", "--full")
    partial.git("theta", "prune", "--dry-run")
    partial.git("theta", "du")
    assert partial.git(*missing) == before
    assert history.differing_in(partial) == []


def test_a_store_that_cannot_be_written_is_a_clear_error(begin: Make, tmp_path: Path) -> None:
    history = begin(fine_tuned)
    repo = history.repo
    inside = tmp_path / "mounted"
    inside.mkdir()
    mount = ["mount", "--bind", "-o", "ro", str(repo.path), str(inside)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs rights that this user has not")
    try:
        done = Repo(inside).run("-c", "safe.directory=*", "theta", "gc", check=False)
    finally:
        subprocess.run(["umount", "--lazy", str(inside)], check=True)
    assert done.returncode not in (0, 1)
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr
    assert history.differing() == []


@pytest.mark.parametrize("which", ["first", "last"])
def test_a_flipped_bit_stops_the_collection_and_nothing_is_deleted(history: History, which: str) -> None:
    repo = history.repo
    model = training.fresh(1)
    made: list[set[str]] = [set()]
    for step in range(3):
        history.commit(model=model)
        made.append(set(packs(repo)))
        model = training.trained(model, step)
    before = packs(repo)
    new = made[1] if which == "first" else made[3] - made[2]
    victim = max((before[name] for name in new), key=lambda path: path.stat().st_size)
    victim.chmod(0o644)
    data = bytearray(victim.read_bytes())
    data[-200] ^= 1  # in the bytes of the last matrix, which lie there as they are
    victim.write_bytes(data)
    age(repo)
    done = repo.run("theta", "gc", "--grace", "0", check=False)
    assert done.returncode != 0
    assert victim.name in done.stderr
    assert "Traceback" not in done.stderr
    assert packs(repo).keys() >= before.keys()
    data[-200] ^= 1
    victim.write_bytes(data)  # mended
    gc(repo)
    assert history.differing() == []


def origin(repo: Repo, shared: Repo) -> None:
    """Name a remote, which a repository that was copied does not have."""
    repo.git("config", "remote.origin.url", str(shared.path))
    repo.git("config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")


def clone(source: Repo, place: Path) -> Repo:
    source.git("clone", "--quiet", str(source.path), str(place))
    return Repo(place)


def test_a_push_makes_things_small_first_and_sends_only_what_is_new(begin: Make, shared: Repo, tmp_path: Path) -> None:
    history = begin(fine_tuned)
    repo, model = history.repo, training.trained(training.fresh(), 40)
    origin(repo, shared)
    dense = stored(repo)
    repo.git("push", "--quiet", "origin", "main")
    assert stored(shared) < 0.55 * dense
    before = packs(shared)
    for step in range(2):
        history.commit(model=model)
        model = training.trained(model, 70 + step)
    repo.git("push", "--quiet", "origin", "main")
    fresh = set(packs(shared)) - set(before)
    assert set(before) < set(packs(shared))
    sent = sum(packs(shared)[name].stat().st_size for name in fresh)
    assert sent < 2 * 0.55 * dense / STEPS
    copy = clone(shared, tmp_path / "clone")
    assert history.differing_in(copy) == []
    copy.git("theta", "fsck", "--full")


@pytest.mark.parametrize("collected", [False, True], ids=["as added", "after gc"])
def test_a_push_lets_nothing_of_other_branches_out(history: History, shared: Repo, *, collected: bool) -> None:
    repo = history.repo
    model = training.fresh(1)
    history.commit(model=model)
    repo.switch("-b", "private")
    private = training.trained(model, 1, size=1e-2)
    history.commit(model=private)
    secret = packs(repo)
    repo.git("checkout", "--quiet", "main")
    history.commit(model=training.trained(private, 2))
    if collected:
        repo.git("theta", "gc", "--quiet")
        store = Store(theta(repo))
        main, side = (set(repo.git("show", f"{rev}:{MODEL}").split()) for rev in ("main", "private"))
        assert {base for d in main - side for held in store.locations([d]).get(d, ()) for base in held.bases} & (
            side - main
        )
        store.close()
    repo.git("push", "--quiet", "origin", "main")
    store = Store(theta(shared))
    store.refresh()
    theirs = set(store.index.all_locations())
    store.close()
    named = {word for word in repo.git("show", f"private:{MODEL}").split() if len(word) == 64}
    known = {word for rev in ("main", "main~1") for word in repo.git("show", f"{rev}:{MODEL}").split()}
    assert secret
    assert not theirs & (named - known)


def test_chains_that_lean_the_other_way_on_a_remote_make_no_circle(
    begin: Make, shared: Repo, template: Path, tmp_path: Path
) -> None:
    history = begin(fine_tuned)
    repo = history.repo
    origin(repo, shared)
    shutil.copytree(template, tmp_path / "other", symlinks=True)
    other = Repo(tmp_path / "other")
    other.git("remote", "add", "origin", str(shared.path))
    other.git("checkout", "--quiet", "-b", "backwards")
    backwards = History(other)
    for files in reversed(history.files.values()):
        other.write(files[MODEL])
        backwards.note(other.commit("backwards"))
    other.git("push", "--quiet", "origin", "backwards")
    gc(repo)
    for pack in packs(shared).values():
        place = theta(repo) / "packs" / pack.name[:2]
        place.mkdir(exist_ok=True)
        shutil.copy(pack, place)
    repo.git("fetch", "--quiet", "origin", "backwards")
    for options in ((), ("--aggressive",), ("--grace", "0")):
        gc(repo, *options)
    repo.git("theta", "fsck", "--full")
    repo.git("push", "--quiet", "origin", "main")
    assert history.differing() == []
    third = clone(shared, tmp_path / "third")
    assert backwards.differing_in(third) == []
    assert history.differing_in(third) == []


def test_commands_leave_no_log_of_the_index_behind(two: Repo) -> None:
    for words in (["checkout", "--quiet", "one"], ["theta", "gc"], ["theta", "status"]):
        two.git(*words)
        assert list((two.path / ".git/theta").glob("index.sqlite3*")) == [two.path / ".git/theta/index.sqlite3"], words
