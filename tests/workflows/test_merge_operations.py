"""Every command of git that merges three versions: from which ancestor it computes, and how it goes on when stopped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from workbench import ATTENTION, EMBEDDING, MODEL, Become, Repo, model, safetensors, tensors, values

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
            repo.git("checkout", "--quiet", "-B", name, *([start] if start else []))
        repo.write_model(seed=1, changed=changed)
        repo.commit(name)


@pytest.fixture
def forked(become: Become) -> Repo:
    """Return a repository in which ``main`` and, in two commits, ``side`` changed one float and one integer tensor."""
    return become(_forked)


def started(repo: Repo, operation: Operation) -> None:
    repo.git("checkout", "--quiet", operation.at)
    for words in operation.prepare:
        repo.git(*words)


def moved(operation: Operation) -> np.ndarray:
    """Return the embedding that task arithmetic comes to: ours, and what theirs moved it by."""
    found = np.empty(0, "<f4")
    for seeds in operation.versions:
        base, ours, theirs = (found if s is None else np.frombuffer(values(EMBEDDING, s), "<f4") for s in seeds)
        found = ((ours - base) + (theirs - base)) + base
    return found


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_both_sides_changed_is_computed_from_the_right_ancestor(forked: Repo, name: str) -> None:
    operation = OPERATIONS[name]
    forked.git("config", "theta.merge.method", "task_arithmetic")
    started(forked, operation)
    forked.git(*operation.words)
    attention = {ATTENTION[1]: 4} if operation.at == "side" and name == "revert" else {ATTENTION[0]: 2, ATTENTION[1]: 4}
    content = tensors(1, attention)
    content[EMBEDDING] = (*content[EMBEDDING][:2], moved(operation).tobytes())
    wanted = safetensors(content, META)
    assert forked.read() == wanted
    if operation.commits:
        assert forked.unsettled(MODEL, wanted) == []
        assert ("Theta-Merge" in forked.git("log", "-1", "--format=%B")) == name.startswith("merge")
    assert forked.cleans("status") <= (not operation.commits)


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
        assert forked.unsettled(MODEL, wanted) == []
        assert ("Theta-Merge" in forked.git("log", "-1", "--format=%B")) == name.startswith("merge")
