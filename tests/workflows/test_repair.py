"""Damage to packs, found and mended with what a remote or the packs themselves still hold."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from helpers import EMBEDDING, MODEL, SPECS, Repo, dense_payload, make_pack, model, values

from git_theta_ext.cli.main import main
from git_theta_ext.cli.render.repair import plan_lines
from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.repository import Repository
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.store.locks import gc_lock
from git_theta_ext.store.maintenance.copying import copies
from git_theta_ext.store.packs.format import Entry
from git_theta_ext.store.packs.reader import read_pack_header
from git_theta_ext.store.store import Store
from git_theta_ext.transfer.repair import RepairPlan

if TYPE_CHECKING:
    from pathlib import Path


def packs(repo: Repo) -> list[Path]:
    return sorted(path for path in (repo.path / ".git" / "theta" / "packs").rglob("*") if path.is_file())


def largest(repo: Repo) -> Path:
    return max(packs(repo), key=lambda path: path.stat().st_size)


def damage(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.unlink()  # the remote may have a link to it
    path.write_bytes(data)


def fsck(repo: Repo, *options: str, code: int = 0) -> dict[str, object]:
    done = repo.run("theta", "fsck", "--json", *options, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def pushed(two: Repo, shared: Repo) -> Repo:
    assert shared.path.is_dir()
    two.git("push", "--quiet", "origin", "main", "one", "two")
    return two


def test_damage_is_reported_with_pack_commit_and_parameter(two: Repo) -> None:
    damage(largest(two))
    (result,) = fsck(two, code=6)["problems"]
    assert result["pack"] == result["where"] == str(largest(two))
    places = [f"{MODEL} ({two.git('rev-parse', '--short=12', tag)})" for tag in ("one", "two")]
    # Both models have a pack of that size.
    assert [use for use in result["needed_by"] if use.startswith(tuple(places))] == result["needed_by"]
    assert any(use.endswith(f": {EMBEDDING}") for use in result["needed_by"])
    assert "needed by model.safetensors" in two.run("theta", "fsck", check=False).stdout


@pytest.mark.parametrize("at", [0, 12, 25, 60, 500, -1])
def test_damaged_packs_are_fetched_anew(pushed: Repo, at: int) -> None:
    before = packs(pushed)
    fsck(pushed, "--full")
    for path in before:
        damage(path, min(at, path.stat().st_size - 1))
    result = fsck(pushed, "--full", "--repair")
    assert result["problems"] == []
    assert len(result["repair"]["removed"]) == len(before)
    assert packs(pushed) == before
    assert not (pushed.path / ".git/theta/quarantine").exists()
    assert fsck(pushed, "--full")["problems"] == []
    pushed.git("checkout", "--quiet", "one")
    assert pushed.problems(MODEL, model(1)) == []


def test_damage_is_mended_after_the_index_was_lost_too(pushed: Repo) -> None:
    for path in packs(pushed):
        damage(path, 40)
    for path in (pushed.path / ".git" / "theta").glob("index.sqlite3*"):
        path.unlink()
    fsck(pushed, "--repair")
    pushed.git("checkout", "--quiet", "one")
    assert pushed.problems(MODEL, model(1)) == []
    assert fsck(pushed, "--full")["problems"] == []


def test_the_remote_may_hold_the_tensors_in_other_packs(pushed: Repo, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(pushed.path, other)
    copy = Repo(other)
    shutil.rmtree(other / ".git" / "theta")
    copy.write_model("both.safetensors", seed=1)
    copy.git("add", "both.safetensors")
    copy.write_model("both.safetensors", seed=2)
    copy.git("add", "both.safetensors")
    pushed.git("remote", "set-url", "origin", str(other))
    for path in packs(pushed):
        damage(path, 30)
    shutil.rmtree(pushed.path / ".git" / "theta" / "remotes")
    assert fsck(pushed, "--repair")["problems"] == []
    assert fsck(pushed, "--full")["problems"] == []


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(pushed: Repo) -> None:
    damage(largest(pushed))
    before = {path: path.read_bytes() for path in packs(pushed)}
    result = fsck(pushed, "--repair", "--dry-run", code=6)
    assert result["repair"]["packs"] == [largest(pushed).name]
    assert result["repair"]["broken"] == result["repair"]["fetchable"] != []
    assert {path: path.read_bytes() for path in packs(pushed)} == before
    assert pushed.run("theta", "fsck", "--dry-run", check=False).returncode == 2
    count = len(result["repair"]["broken"])
    said = pushed.run("theta", "fsck", "--repair", "--dry-run", check=False).stdout
    assert f"damaged or missing: {count} tensors; would fetch {count} tensors\n" in said


def test_a_dry_run_counts_layouts_only_if_no_tensor_is_lost(pushed: Repo) -> None:
    repo = Repository.discover(pushed.path)
    manifests = [manifest for _, manifest in repo.manifests("HEAD").values()]
    layout, tensor = manifests[0].skeleton.digest, next(iter(manifests[0].parameters.values())).digest
    (line,) = plan_lines(RepairPlan((), frozenset({layout}), frozenset({layout})), manifests)
    assert line == "damaged or missing: 1 file layout; would fetch 1 file layout"
    (line,) = plan_lines(RepairPlan((), frozenset({layout, tensor}), frozenset({tensor})), manifests)
    assert line == "damaged or missing: 1 tensor; would fetch 1 tensor"


def test_without_a_remote_the_sound_parts_of_a_pack_are_saved(two: Repo) -> None:
    pack = largest(two)
    damage(pack)
    result = fsck(two, "--full", "--repair", code=7)
    assert len(result["repair"]["lost"]) == 1
    assert len(result["repair"]["saved"]) > 5
    assert result["repair"]["quarantined"] == [pack.name]
    assert (two.path / ".git/theta/quarantine/packs" / pack.name[:2] / pack.name).exists()
    (problem,) = result["problems"]
    assert problem["kind"] == "missing"
    assert fsck(two, "--full", code=7)["problems"] == result["problems"]


def test_what_could_not_be_mended_is_kept_aside_until_it_can_be(pushed: Repo) -> None:
    url = pushed.git("remote", "get-url", "origin")
    pushed.git("remote", "remove", "origin")
    pack = largest(pushed)
    damage(pack)
    lost = fsck(pushed, "--repair", code=7)["repair"]["lost"]
    aside = pushed.path / ".git/theta/quarantine/packs" / pack.name[:2] / pack.name
    kept = aside.read_bytes()
    assert fsck(pushed, "--repair", code=7)["repair"]["lost"] == lost != []
    assert aside.read_bytes() == kept
    pushed.git("remote", "add", "origin", url)
    assert fsck(pushed, "--repair")["repair"]["fetched"] == lost
    assert fsck(pushed, "--full")["problems"] == []
    pushed.git("checkout", "--quiet", "one")
    assert pushed.problems(MODEL, model(1)) == []


def test_a_repair_that_was_killed_after_it_moved_packs_is_gone_on_with(two: Repo) -> None:
    before = packs(two)
    for path in before:
        aside = two.path / ".git/theta/quarantine/packs" / path.name[:2] / path.name
        aside.parent.mkdir(parents=True)
        path.rename(aside)
    result = fsck(two, "--full", "--repair")
    assert result["problems"] == []
    assert result["repair"]["lost"] == []
    shutil.rmtree(two.path / ".git/theta/quarantine")
    two.git("checkout", "--quiet", "one")
    assert two.problems(MODEL, model(1)) == []
    assert fsck(two, "--full")["problems"] == []


def test_a_damaged_pack_stays_while_something_that_is_lost_leans_on_it(repo: Repo) -> None:
    near = bytearray(repo.write_model(seed=1))
    repo.commit("base")
    base = packs(repo)
    near[-100_000:-99_990] = bytes(10)  # a few values of one tensor
    repo.write(bytes(near))
    repo.commit("near")
    repo.git("theta", "gc")
    forgotten = repo.git("rev-parse", "HEAD~1")
    (leaning,) = set(packs(repo)) - set(base)
    repo.git("checkout", "--quiet", "--orphan", "alone")
    repo.git("commit", "--quiet", "--message", "near alone")
    repo.git("branch", "--quiet", "-D", "main")
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("gc", "--quiet", "--prune=now")
    assert repo.run("cat-file", "-e", forgotten, check=False).returncode
    held = {path: path.read_bytes() for path in base if path.exists()}
    for path in held:
        damage(path)
    (repo.path / MODEL).unlink()
    result = fsck(repo, "--full", "--repair", code=6)["repair"]
    assert result["lost"] != []
    assert leaning.exists()
    places = [*result["put_back"], *result["quarantined"]]
    assert {path.name for path in held} >= set(places) != set()
    for name in places:  # with the flipped bit put right by hand, all is well again
        (path,) = (repo.path / ".git/theta").rglob(name)
        damage(path)
    fsck(repo, "--full", "--repair")
    repo.git("checkout", "--", MODEL)
    assert repo.read() == bytes(near)


def test_a_pack_goes_back_where_nothing_can_be_had_in_its_stead(repo: Repo) -> None:
    repo.write(b"no model " * 50_000, "x.opaque")
    repo.commit("one chunk")
    pack = largest(repo)
    damage(pack)
    (repo.path / "x.opaque").unlink()
    result = fsck(repo, "--repair", code=6)
    assert result["repair"]["put_back"] == [pack.name]
    assert [problem["pack"] for problem in result["problems"]] == [str(pack)]
    assert not (repo.path / ".git/theta/quarantine").exists()
    assert [problem["pack"] for problem in fsck(repo, code=6)["problems"]] == [str(pack)]


def test_swapped_packs_are_saved_from_themselves(two: Repo) -> None:
    first, second, *_ = sorted(packs(two), key=lambda path: -path.stat().st_size)
    one, other = first.read_bytes(), second.read_bytes()
    for path, data in ((first, other), (second, one)):
        path.unlink()
        path.write_bytes(data)
    assert {problem["pack"] for problem in fsck(two, code=6)["problems"]} >= {str(first), str(second)}
    assert fsck(two, "--repair")["problems"] == []
    two.git("checkout", "--quiet", "one")
    assert two.problems(MODEL, model(1)) == []


def test_damage_to_what_nothing_needs_is_removed(two: Repo) -> None:
    two.write_model(seed=9)
    before = packs(two)
    two.git("add", MODEL)
    (fresh,) = set(packs(two)) - set(before)
    two.git("reset", "--quiet", "--hard")
    damage(fresh)
    assert "not needed by any manifest" in two.run("theta", "fsck", check=False).stdout
    assert fsck(two, "--repair")["repair"]["removed"] == [fresh.name]
    assert packs(two) == before


def test_a_missing_base_is_fetched(pushed: Repo) -> None:
    data = bytearray(pushed.read())
    data[-100_000:-99_990] = bytes(10)  # a few values of one tensor
    pushed.write(bytes(data))
    os.utime(pushed.path / MODEL, (1000, 1000))  # else git trusts no file that is as young as its index
    pushed.commit("near")
    pushed.git("push", "--quiet", "origin", "main")
    pushed.git("theta", "gc")
    fsck(pushed, "--full")
    (pushed.path / MODEL).unlink()
    fetched = []
    for path in packs(pushed):
        path.unlink()
        fetched += fsck(pushed, "--repair")["repair"].get("fetched", [])
    assert fetched
    pushed.git("checkout", "--", MODEL)
    assert pushed.problems(MODEL, bytes(data)) == []


def test_a_remote_that_cannot_be_asked_is_named_where_something_is_missing(pushed: Repo, shared: Repo) -> None:
    pushed.git("theta", "prune")
    shared.path.rename(shared.path.with_name("away"))
    done = pushed.run("theta", "fsck", check=False)
    assert done.returncode == 7
    assert f"there is no git repository {shared.path}; parameters that only" in done.stderr
    result = json.loads(pushed.run("theta", "fsck", "--json", check=False).stdout)
    assert [str(shared.path) in message for message in result["unasked"]] == [True]
    shared.path.with_name("away").rename(shared.path)
    assert json.loads(pushed.git("theta", "fsck", "--json")) == {
        "schema": 1,
        "manifests": 2,
        "problems": [],
        "unasked": [],
    }


def poison(repo: Repo, seed: int) -> str:
    """Put a pack in the place of that of a version's embedding, of a right name and other values; returns its name."""
    spec = TensorSpec.of(*SPECS[EMBEDDING])
    digest = tensor_digest(spec, values(EMBEDDING, seed))
    payload = dense_payload(spec, values(EMBEDDING, 99))
    name, data = make_pack((Entry(digest, spec, "dense", (len(payload),)), payload))
    with closing(Store(repo.path / ".git/theta")) as store:
        store.put([(spec, tensor_digest(spec, values(EMBEDDING, 99)), values(EMBEDDING, 99))])
        for path in packs(repo):
            entries = read_pack_header(path).entries
            if any(entry.digest == digest for entry in entries):
                assert len(entries) > 1
                others = [h for e in entries if e.digest != digest for h in store.locations([e.digest])[e.digest]]
                store.write(copies(store, others), loose=True)
                store.drop([path.name])
        (store.root / "made").write_bytes(data)
        store.adopt(name, store.root / "made")
    return name


def test_a_pack_of_a_right_name_and_a_wrong_tensor_is_mended_from_the_work_tree(two: Repo) -> None:
    name = poison(two, 2)
    fsck(two, "--full", code=6)
    result = fsck(two, "--full", "--repair")
    assert result["repair"]["removed"] == [name]
    (mended,) = result["repair"]["mended"]
    assert mended["from"] == str(two.path / MODEL)
    assert [use.rpartition(": ")[2] for use in mended["parameters"]] == [EMBEDDING]
    assert fsck(two, "--full")["problems"] == []
    # What no file, pack or remote holds stays lost, and is result by path and parameter.
    poison(two, 1)
    done = two.run("theta", "fsck", "--full", "--repair", check=False)
    assert done.returncode == 6
    assert f"lost {MODEL} ({two.git('rev-parse', '--short=12', 'one')}): {EMBEDDING}: no good copy" in done.stdout


def test_adding_a_good_file_heals_the_store_and_nothing_bad_is_pushed(two: Repo, shared: Repo) -> None:
    name = poison(two, 2)
    done = two.run("push", "origin", "main", check=False)
    assert done.returncode == 1
    assert not list(shared.path.glob("theta/packs/*/*"))
    (two.path / MODEL).touch()
    two.git("add", MODEL)
    assert name not in {path.name for path in packs(two)}
    assert fsck(two, "--full")["problems"] == []
    two.git("push", "--quiet", "origin", "main")
    assert name not in {path.name for path in shared.path.glob("theta/packs/*/*")}


def test_nothing_to_repair_is_said(two: Repo) -> None:
    assert "nothing to repair" in two.git("theta", "fsck", "--repair")


def test_no_garbage_is_collected_during_a_repair(two: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(largest(two))
    monkeypatch.chdir(two.path)
    root = two.path / ".git" / "theta"
    held = []

    def watched(*_: object) -> None:
        with gc_lock(root, wait=False) as acquired:
            held.append(not acquired)
        raise RepositoryError("seen enough")

    monkeypatch.setattr("git_theta_ext.transfer.repair.plan_repair", watched)
    assert main(["fsck", "--repair"]) == RepositoryError.exit_code
    assert main(["fsck", "--repair", "--dry-run"]) == RepositoryError.exit_code
    assert held == [True, False]
