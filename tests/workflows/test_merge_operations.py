"""Every command of git that merges three versions: from which ancestor it computes, and how it goes on when stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from helpers import ATTENTION, EMBEDDING, MODEL, Repo, WithHistory, model, safetensors, tensors, values

IDS = "position_ids"
META = {"format": "pt", "note": "kept to the byte"}


@dataclass(frozen=True)
class Operation:
    """A command that merges.

    Attributes:
        at: What is checked out before.
        prepare: What is done then.
        words: The command.
        versions: Seeds of ancestor, ours and theirs, for each merge that it makes; ours is None where it is what the
            merge before came to.
        finish: What goes on where it stopped.
        commits: Whether it ends with a commit.
    """

    at: str
    prepare: tuple[tuple[str, ...], ...]
    words: tuple[str, ...]
    versions: tuple[tuple[int, int | None, int], ...]
    finish: tuple[str, ...]
    commits: bool = True


PATCH = ("format-patch", "-1", "--full-index", "--output", "../patch", "side")
REPLAYED = ((1, 2, 3), (3, None, 4))
OPERATIONS = {
    "merge": Operation("main", (), ("merge", "side"), ((1, 2, 4),), ("commit", "--no-edit")),
    "merge --continue": Operation("main", (), ("merge", "side"), ((1, 2, 4),), ("merge", "--continue")),
    "squash": Operation(
        "main", (), ("merge", "--squash", "side"), ((1, 2, 4),), ("commit", "--no-edit"), commits=False
    ),
    "cherry-pick": Operation("main", (), ("cherry-pick", "side"), ((3, 2, 4),), ("cherry-pick", "--continue")),
    "revert": Operation("side", (), ("revert", "--no-edit", "side~1"), ((3, 4, 1),), ("revert", "--continue")),
    "rebase": Operation("side", (), ("rebase", "main"), REPLAYED, ("rebase", "--continue")),
    "rebase --apply": Operation("side", (), ("rebase", "--apply", "main"), REPLAYED, ("rebase", "--continue")),
    "am": Operation("main", (PATCH,), ("am", "--3way", "../patch"), ((3, 2, 4),), ("am", "--continue")),
    "stash pop": Operation(
        "base",
        (("checkout", "side", "--", MODEL), ("stash",), ("checkout", "main")),
        ("stash", "pop"),
        ((1, 2, 4),),
        ("stash", "drop"),
        commits=False,
    ),
    "checkout -m": Operation(
        "base",
        (("restore", "--source=side", MODEL),),
        ("checkout", "-m", "main"),
        ((1, 2, 4),),
        ("reset",),
        commits=False,
    ),
}


def _forked(repo: Repo) -> None:
    for name, start, changed in (
        ("base", None, {}),
        ("side", "base", {EMBEDDING: 3}),
        ("side", None, {EMBEDDING: 4, ATTENTION[1]: 4}),
        ("main", "base", {EMBEDDING: 2, ATTENTION[0]: 2}),
    ):
        if start or name == "base":
            repo.switch("-B", name, *([start] if start else []))
        repo.write_model(seed=1, changed=changed)
        repo.commit(name)


@pytest.fixture
def forked(with_history: WithHistory) -> Repo:
    """Return a repository in which ``main`` and, in two commits, ``side`` changed one float and one integer tensor."""
    return with_history(_forked)


def started(repo: Repo, operation: Operation) -> None:
    repo.switch(operation.at)
    for words in operation.prepare:
        repo.git(*words)


def moved(operation: Operation, *, merged: bool) -> np.ndarray:
    """Return the embedding that an operation comes to: the mean of a merge, or ours and what theirs moved it by."""
    found = np.empty(0, "<f4")
    for seeds in operation.versions:
        base, ours, theirs = (found if s is None else np.frombuffer(values(EMBEDDING, s), "<f4") for s in seeds)
        exact = ours.astype("f8") + (theirs.astype("f8") - base)
        found = ((ours + theirs) / 2).astype("<f4") if merged else exact.astype("<f4")
    return found


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "merge --continue"])
def test_merges_merge_what_both_sides_changed_and_all_else_applies_the_change(forked: Repo, name: str) -> None:
    operation = OPERATIONS[name]
    started(forked, operation)
    done = forked.run(*operation.words)
    merges = name.startswith("merge") or name == "squash"
    attention = {ATTENTION[1]: 4} if operation.at == "side" and name == "revert" else {ATTENTION[0]: 2, ATTENTION[1]: 4}
    content = tensors(1, attention)
    content[EMBEDDING] = (*content[EMBEDDING][:2], moved(operation, merged=merges).tobytes())
    wanted = safetensors(content, META)
    assert forked.read() == wanted
    if operation.commits:
        assert forked.problems(MODEL, wanted) == []
        assert ("Theta-Merge" in forked.git("log", "-1", "--format=%B")) == name.startswith("merge")
    assert forked.cleans("status") <= (not operation.commits)
    said = "1 merged by average" if merges else "the change applied to 1 parameter that both changed"
    # Git keeps to itself what a driver says while it switches branches.
    assert (said in done.stderr) or name in {"checkout -m", "stash pop"}, done.stderr


def embedding(repo: Repo) -> np.ndarray:
    data = repo.read()
    start = 8 + int.from_bytes(data[:8], "little")
    first, last = json.loads(data[8:start])[EMBEDDING]["data_offsets"]
    return np.frombuffer(data[start + first : start + last], "<f4")


RULED = (
    # Words before and behind the command, environment, settings, rules; and the seed of the values that are expected:
    # 0 for the applied change, None for a conflict.
    ([], [], "", {"theta.merge.replay": "theirs"}, "", 4),
    ([], [], "", {"theta.merge.replay": "conflict"}, "", None),
    ([], [], "", {"theta.merge.replay": "rules"}, "defaults: {method: base}", 3),
    ([], [], "", {}, "defaults: {method: ties}", 0),
    ([], [], "", {}, "defaults: {method: conflict}", None),
    ([], [], "", {}, f"rules: [{{match: {EMBEDDING}, method: average}}]", 0),
    ([], [], "", {}, f"rules: [{{match: {EMBEDDING}, method: ours}}]", 2),
    ([], [], "", {"theta.merge.method": "average"}, "", 0),
    (["-c", "theta.merge.method=theirs"], [], "", {"theta.merge.method": "average"}, "", 4),
    ([], [], "theirs", {}, "", 4),
    ([], ["-X", "ours"], "", {}, "", 2),
    ([], ["-X", "theirs"], "", {}, "defaults: {method: conflict}", 4),
)


def test_methods_for_merges_do_not_thin_out_a_change_that_is_picked(
    forked: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    for before, behind, environment, settings, rules, seed in RULED:
        monkeypatch.setenv("GIT_THETA_MERGE", environment)
        asked = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        if "theta.merge.method" in settings:  # what is given with -c counts for the command
            forked.git("config", "theta.merge.method", settings["theta.merge.method"])
            asked = []
        if rules:
            forked.write(f"version: 1\n{rules}\n".encode(), ".thetamerge")
        done = forked.run(*asked, *before, "cherry-pick", *behind, "side", check=False)
        case = (before, behind, environment, settings, rules, done.stderr)
        assert (done.returncode == 1) == (seed is None), case
        if seed is not None:
            wanted = (
                np.frombuffer(values(EMBEDDING, seed), "<f4")
                if seed
                else moved(OPERATIONS["cherry-pick"], merged=False)
            )
            assert np.array_equal(embedding(forked), wanted), case
        forked.git("reset", "--quiet", "--hard", "main@{0}" if seed is None else "HEAD~1")
        (forked.path / ".thetamerge").unlink(missing_ok=True)
        forked.run("config", "--unset", "theta.merge.method", check=False)


def test_what_cannot_be_applied_is_a_conflict_and_the_stash_is_kept(forked: Repo) -> None:
    forked.switch("base")
    forked.write_model(seed=1, changed={EMBEDDING: 5, IDS: 7})
    forked.git("stash", "--quiet")
    forked.write_model(seed=1, changed={EMBEDDING: 6, IDS: 8})
    forked.commit("integers, too")
    done = forked.run("stash", "pop", check=False)
    assert done.returncode == 1, done.stderr
    assert forked.git("stash", "list")
    left = forked.run("theta", "resolve", MODEL, check=False).stdout
    assert "1 parameter in conflict:" in left
    assert IDS in left


@pytest.mark.parametrize("name", OPERATIONS)
def test_stopped_by_a_conflict_it_goes_on_after_resolve(forked: Repo, name: str) -> None:
    operation = OPERATIONS[name]
    forked.git("config", "theta.merge.method", "conflict")
    started(forked, operation)
    done = forked.run(*operation.words, check=False)
    assert (done.returncode == 0) == (name == "checkout -m"), done.stderr
    assert forked.git("status", "--porcelain", "--untracked-files=no") == f"UU {MODEL}"
    assert forked.read().startswith(b"git-theta manifest 1\n")
    forked.git("theta", "resolve", "--method", "theirs", MODEL)
    forked.git(*operation.finish)
    attention = {ATTENTION[1]: 4} if name == "revert" else {ATTENTION[0]: 2, ATTENTION[1]: 4}
    wanted = model(1, {EMBEDDING: operation.versions[-1][2]} | attention)
    assert forked.read() == wanted
    if operation.commits or name == "squash":
        assert forked.problems(MODEL, wanted) == []
        assert ("Theta-Merge" in forked.git("log", "-1", "--format=%B")) == name.startswith("merge")
