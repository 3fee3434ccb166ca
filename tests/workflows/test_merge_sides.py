"""``sides=all`` in real merges: rules also decide what only one branch changed."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import ATTENTION, MODEL, Repo, WithHistory, fork, model, values
from safetensors.torch import load_file

import git_theta_ext

WORDS = ("-X", "method=task_arithmetic", "-X", "lambda=0.5", "-X", "sides=all")


@pytest.fixture
def forked(with_history: WithHistory) -> Repo:
    """Return a repository in which ``main`` changed one attention and ``side`` another one."""
    return with_history(fork)


def _half_changed(name: str, seed: int) -> np.ndarray:
    before, after = (np.frombuffer(values(name, drawn), "<f4").astype("<f8") for drawn in (1, seed))
    return (before + (after - before) / 2).astype("<f4").reshape(64, 64)


def test_all_changes_are_scaled_recorded_and_computed_again(forked: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(forked.path)
    in_python = git_theta_ext.merge([f"main:{MODEL}", f"side:{MODEL}"], "task_arithmetic", lambda_=0.5, sides="all")
    forked.git("merge", "--quiet", "--no-edit", "-s", "theta", *WORDS, "side")
    merged = load_file(forked.path / MODEL)
    for name, seed in ((ATTENTION[0], 2), (ATTENTION[1], 3)):
        np.testing.assert_allclose(merged[name], _half_changed(name, seed), atol=1e-8)
        assert in_python[name].numpy().tobytes() == merged[name].numpy().tobytes()
    assert merged[ATTENTION[2]].numpy().tobytes() == values(ATTENTION[2], 1)
    assert "lambda=0.5 sides=all" in forked.git("log", "-1", "--format=%(trailers:key=Theta-Merge)")
    assert "2 parameters computed again, identical" in forked.git("theta", "merge", "--replay")


def test_rule_takes_some_layers_from_the_other_branch_and_the_rest_from_ours(forked: Repo) -> None:
    forked.write(
        b"version: 1\ndefaults: {method: theirs, sides: all}\n"
        b"rules:\n  - {match: 'encoder.layer.{2..3}.**', method: ours}\n",
        ".thetamerge",
    )
    forked.git("merge", "--quiet", "--no-edit", "side")
    assert forked.problems(MODEL, model(1, {ATTENTION[1]: 3})) == []
    assert "identical" in forked.git("theta", "merge", "--replay")


def test_replayed_changes_ignore_it(forked: Repo) -> None:
    forked.git("config", "theta.merge.options", "sides=all")
    forked.git("rebase", "--quiet", "side")
    assert forked.problems(MODEL, model(1, {ATTENTION[0]: 2, ATTENTION[1]: 3})) == []


def test_wrong_number_of_weights_is_an_error_before_anything_is_merged(forked: Repo) -> None:
    before = forked.git("rev-parse", "HEAD")
    failed = forked.run("merge", "-s", "theta", "-X", "weights=1,2,3", "side", check=False)
    assert (failed.returncode, forked.git("status", "--porcelain")) == (2, "")
    assert "3 weights are given for 2 sides" in failed.stderr
    assert forked.git("rev-parse", "HEAD") == before
