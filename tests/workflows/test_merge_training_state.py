"""Checkpoints with the state of an optimizer, which has other entries on each branch."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import fork

if TYPE_CHECKING:
    from helpers import Repo, WithHistory

PATH = "training.npz"
THEIRS, OURS = 2, 3
"""Seeds."""


def _checkpoint(seed: int, *, trained: bool = True) -> bytes:
    noise = np.random.default_rng(seed)
    state = {f"state.{n}.average": noise.normal(size=8) for n in range(24)} if trained else {}
    state |= {f"state.{n}.step": np.array([5.0]) for n in range(24)} if trained else {}
    file = io.BytesIO()
    np.savez(file, weight=noise.normal(size=8), **state)
    return file.getvalue()


def _forked(repo: Repo) -> None:
    repo.git("theta", "track", "*.npz")
    fork(repo, PATH, (_checkpoint(1), _checkpoint(THEIRS), _checkpoint(OURS, trained=False)))


@pytest.fixture
def forked(with_history: WithHistory) -> Repo:
    """Return a repository in which ``main`` lost the state of the optimizer, and ``side`` changed most of it."""
    return with_history(_forked)


def _contents(data: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(data)) as file:
        return dict(file)


def test_conflicts_whose_names_differ_only_in_numbers_share_a_line_if_there_are_many(forked: Repo) -> None:
    assert forked.run("merge", "side", check=False).returncode == 1
    shown = forked.run("theta", "resolve", check=False).stdout
    assert "  state.{0-23}.average, 24 parameters  (deleted by ours, changed by theirs)\n" in shown
    assert "  state.{0-23}.step, 24 parameters  (deleted by ours, but the layout is that of one side)\n" in shown


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_the_state_of_one_side_is_taken_whole_with_merged_weights(forked: Repo, side: str) -> None:
    assert forked.run("merge", "side", check=False).returncode == 1
    forked.git("theta", "resolve", "--method", side)
    _check(forked, side)


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_a_rule_takes_the_state_of_one_side_whole(forked: Repo, side: str) -> None:
    forked.write(f"version: 1\nrules:\n- match: state.**\n  method: {side}\n".encode(), ".thetamerge")
    forked.commit("rules")
    forked.git("merge", "--quiet", "side")
    _check(forked, side)
    assert "identical to HEAD" in forked.git("theta", "merge", "--replay")
    (group,) = json.loads(forked.git("theta", "merge", "--report", "--json"))["reports"][0]["groups"][-1:]
    assert (group["label"], group["method"]) == ("weight", "average")


def _check(repo: Repo, side: str) -> None:
    ours, theirs = (_contents(_checkpoint(seed, trained=seed == THEIRS)) for seed in (OURS, THEIRS))
    merged = _contents(repo.read(PATH))
    wanted = {"ours": ours, "theirs": theirs}[side]
    np.testing.assert_array_equal(merged.pop("weight"), (ours["weight"] + theirs["weight"]) / 2)
    assert merged.keys() == wanted.keys() - {"weight"}
    assert all((merged[name] == wanted[name]).all() for name in merged)


def test_if_no_file_can_hold_what_is_taken_the_message_says_why_and_what_to_do(forked: Repo) -> None:
    assert forked.run("merge", "side", check=False).returncode == 1
    assert forked.run("theta", "resolve", "-m", "theirs", "-p", "state.*.average", check=False).returncode == 1
    done = forked.run("theta", "resolve", "--method", "ours", check=False)
    assert done.returncode != 0
    assert "its layout has no place for state.0.average, state.1.average, state.10.average and 21 more" in done.stderr
    assert "git checkout --ours PATH && git add PATH" in done.stderr
    forked.git("checkout", "--theirs", PATH)
    forked.git("add", PATH)
    forked.git("commit", "--quiet", "--no-edit")
    assert forked.git("rev-parse", f"HEAD:{PATH}") == forked.git("rev-parse", f"side:{PATH}")


SHARDS = ("training-00001-of-00002.npz", "training-00002-of-00002.npz")


def _shard(seed: int, number: int, *, trained: bool) -> bytes:
    weight = np.random.default_rng((seed, number)).normal(size=8)
    state = {f"step.{number}": np.array([5.0])} if trained else {}
    file = io.BytesIO()
    np.savez(file, **{f"weight.{number}": weight, **state})
    return file.getvalue()


def _write_shards(repo: Repo, seed: int, without: int | None = None) -> None:
    for number, path in enumerate(SHARDS):
        repo.write(_shard(seed, number, trained=number != without), path)


def _forked_shards(repo: Repo) -> None:
    repo.git("theta", "track", "*.npz")
    _write_shards(repo, 1)
    repo.commit("base")
    repo.switch("-b", "side")
    _write_shards(repo, THEIRS, without=1)
    repo.commit("side")
    repo.switch("main")
    _write_shards(repo, OURS, without=0)
    repo.commit("main")


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_the_state_in_several_files_is_taken_whole_from_one_side(with_history: WithHistory, side: str) -> None:
    repo = with_history(_forked_shards)
    assert repo.run("merge", "side", check=False).returncode == 1
    repo.git("theta", "resolve", "--method", side)
    _check_shards(repo, side)


def test_a_rule_takes_the_state_in_several_files_whole(with_history: WithHistory) -> None:
    repo = with_history(_forked_shards)
    repo.write(b"version: 1\nrules:\n- match: step.**\n  method: theirs\n", ".thetamerge")
    repo.commit("rules")
    repo.git("merge", "--quiet", "side")
    _check_shards(repo, "theirs")
    assert "identical to HEAD" in repo.git("theta", "merge", "--replay")
    assert "weight.{0-1}" in repo.git("theta", "merge", "--report")


def _check_shards(repo: Repo, side: str) -> None:
    seed, without = {"ours": (OURS, 0), "theirs": (THEIRS, 1)}[side]
    for number, path in enumerate(SHARDS):
        ours, theirs = (_contents(_shard(which, number, trained=True)) for which in (OURS, THEIRS))
        merged = _contents(repo.read(path))
        name = f"weight.{number}"
        np.testing.assert_array_equal(merged.pop(name), (ours[name] + theirs[name]) / 2)
        wanted = _contents(_shard(seed, number, trained=number != without))
        assert merged.keys() == wanted.keys() - {name}
        assert all((merged[name] == wanted[name]).all() for name in merged)
