"""Commands that replay commits: rebase, cherry-pick, revert, am."""

from __future__ import annotations

import pytest
from helpers import ATTENTION, EMBEDDING, MODEL, Repo, model

pytestmark = pytest.mark.portable

BOTH = model(1, {ATTENTION[0]: 2, ATTENTION[1]: 3})


@pytest.mark.parametrize("backend", ["--merge", "--apply"])
def test_rebase_joins_changes_of_different_tensors(forked: Repo, backend: str) -> None:
    forked.git("checkout", "--quiet", "side")
    forked.git("rebase", "--quiet", backend, "main")
    assert forked.problems(MODEL, BOTH) == []
    assert forked.git("rev-list", "--count", "base..HEAD") == "2"


@pytest.mark.parametrize("backend", ["--merge", "--apply"])
def test_rebase_of_several_commits(forked: Repo, backend: str) -> None:
    forked.git("checkout", "--quiet", "side")
    for seed in (11, 12, 13):
        forked.write_model(seed=1, changed={ATTENTION[1]: seed})
        forked.commit(f"step {seed}")
    forked.git("rebase", "--quiet", backend, "main")
    assert forked.problems(MODEL, model(1, {ATTENTION[0]: 2, ATTENTION[1]: 13})) == []
    forked.git("checkout", "--quiet", "HEAD~2")
    assert forked.problems(MODEL, model(1, {ATTENTION[0]: 2, ATTENTION[1]: 11})) == []


def test_rebase_stopped_by_a_conflict_goes_on_after_resolve(repo: Repo) -> None:
    repo.write_model(seed=1)
    repo.commit("base")
    repo.git("checkout", "--quiet", "-b", "side")
    repo.write_model(seed=1, changed={"position_ids": 3})
    repo.commit("side")
    repo.git("checkout", "--quiet", "main")
    repo.write_model(seed=1, changed={"position_ids": 2})
    repo.commit("main")
    repo.git("checkout", "--quiet", "side")
    assert repo.run("rebase", "main", check=False).returncode != 0
    # While rebasing, theirs is the commit being replayed.
    repo.git("theta", "resolve", "--method", "theirs", MODEL)
    repo.git("rebase", "--continue")
    assert repo.problems(MODEL, model(1, {"position_ids": 3})) == []


def test_rebase_exec_sees_the_file_after_theta_checkout(two: Repo) -> None:
    command = "git theta checkout && sha256sum model.safetensors >> ../digests"
    two.git("rebase", "--quiet", "--exec", command, "--force-rebase", "one^")
    two.git("checkout", "--quiet", "one")
    first = two.sha()
    two.git("checkout", "--quiet", "two")
    second = two.sha()
    seen = [line.split()[0] for line in (two.path.parent / "digests").read_text().splitlines()]
    assert seen == [first, second]


def test_cherry_pick(forked: Repo) -> None:
    forked.git("cherry-pick", "side")
    assert forked.problems(MODEL, BOTH) == []


def test_revert(two: Repo) -> None:
    two.git("revert", "--no-edit", "HEAD")
    assert two.problems(MODEL, model(1)) == []


def test_revert_of_an_older_change_keeps_the_newer_one(forked: Repo) -> None:
    older = forked.git("rev-parse", "HEAD")
    forked.write_model(seed=1, changed={ATTENTION[0]: 2, ATTENTION[3]: 5})
    forked.commit("newer")
    forked.git("revert", "--no-edit", older)
    assert forked.problems(MODEL, model(1, {ATTENTION[3]: 5})) == []


@pytest.mark.parametrize(("parent", "expected"), [("1", {ATTENTION[0]: 2}), ("2", {ATTENTION[1]: 3})])
def test_revert_of_a_merge_leaves_the_side_that_is_kept(forked: Repo, parent: str, expected: dict[str, int]) -> None:
    for name, seed in (("side", 9), ("main", 8)):
        forked.git("checkout", "--quiet", name)
        forked.write_model(seed=1, changed={ATTENTION[name == "side"]: 2 + (name == "side"), EMBEDDING: seed})
        forked.commit(name)
    forked.git("-c", "theta.merge.method=base", "merge", "--quiet", "side")
    forked.git("revert", "--no-edit", "--mainline", parent, "HEAD")
    assert forked.problems(MODEL, model(1, expected | {EMBEDDING: 8 if parent == "1" else 9})) == []


def test_am_applies_a_mailed_change(two: Repo) -> None:
    patch = two.git("format-patch", "-1", "--full-index", "--output-directory", "..")
    two.git("reset", "--quiet", "--hard", "one")
    two.git("am", "--quiet", patch)
    assert two.problems(MODEL, model(2)) == []


def test_am_three_way(forked: Repo) -> None:
    patch = forked.git("format-patch", "-1", "side", "--output-directory", "..")
    forked.git("am", "--quiet", "--3way", patch)
    assert forked.problems(MODEL, BOTH) == []


def test_bisect_visits_whole_files(repo: Repo) -> None:
    digests = []
    for seed in range(6):
        repo.write_model(seed=seed)
        repo.commit(f"step {seed}")
        digests.append(repo.sha())
    bad = " ".join(digests[3:])
    test = f'case " {bad} " in *" $(sha256sum < model.safetensors | cut -c1-64) "*) exit 1;; esac'
    repo.git("bisect", "start", "HEAD", "HEAD~5")
    repo.git("bisect", "run", "sh", "-c", test)
    assert repo.git("rev-parse", "refs/bisect/bad") == repo.git("rev-parse", "main~2")
    repo.git("bisect", "reset")
    assert repo.problems(MODEL, model(5)) == []
