"""Classifiers that were really fine-tuned are merged by git, and the merged one knows what it should.

Thresholds are what twenty other seeds keep as well, with a margin; ``scripts/bench quality`` has all methods.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from benchmarks import rounds
from benchmarks.digits import SPLITS, Trainer, digits
from benchmarks.quality import ONE_THREAD, Trial
from benchmarks.tools import THETA, Repository, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.digits import Values

SEED = 3
HALVES = SPLITS["halves"]
METHODS = ("average", "ties", "regmean")
TRAINER = Trainer("perceptron")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder in which git finds git-theta, and train with one thread: the models are too small for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        yield tmp_path_factory.mktemp("quality")
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trial(place: Path) -> Trial:
    """Return a base that knows a little of all digits, and two experts, each trained on five of them."""
    env = environment(place / "home") | ONE_THREAD
    return Trial.prepare(TRAINER, "halves", SEED, Repository(place / "repository", THETA, env))


@pytest.fixture(scope="module")
def merged(trial: Trial) -> dict[str, Values]:
    """Merge the experts by ``git merge -s theta``, by several methods."""
    return {method: trial.merge(method) for method in METHODS}


def whole(trial: Trial, values: Values) -> float:
    return TRAINER.accuracy(values, trial.sets.test)


def halves(trial: Trial, values: Values) -> list[float]:
    return [TRAINER.accuracy(values, trial.sets.test.within(half)) for half in HALVES]


def test_each_expert_knows_its_half_and_has_forgotten_the_other(trial: Trial) -> None:
    known = [halves(trial, values) for values in trial.experts.values()]
    assert min(known[0][0], known[1][1]) > 0.9
    assert max(known[0][1], known[1][0]) < 0.05
    assert min(halves(trial, trial.base)) > 0.3


@pytest.mark.parametrize("method", METHODS)
def test_the_merged_model_knows_more_than_base_and_experts(
    trial: Trial, merged: dict[str, Values], method: str
) -> None:
    found = whole(trial, merged[method])
    assert found > max(whole(trial, values) for values in trial.experts.values()) + 0.15
    assert found > whole(trial, trial.base) + 0.02


@pytest.mark.parametrize("method", ["average", "regmean"])
def test_the_merged_model_recalls_both_halves(trial: Trial, merged: dict[str, Values], method: str) -> None:
    assert min(halves(trial, merged[method])) > 0.6


def test_knowing_what_goes_through_the_layers_merges_better_than_the_mean(
    trial: Trial, merged: dict[str, Values]
) -> None:
    assert whole(trial, merged["regmean"]) > whole(trial, merged["average"]) + 0.02


def test_cold_fusion_of_eight_contributors_knows_more_after_each_round(place: Path) -> None:
    sets = digits(SEED)
    base, data = TRAINER.base(sets, SEED), rounds.shares(sets, 7)
    folder = place / "rounds"
    folder.mkdir()
    models = rounds.run(TRAINER, base, data, 2, folder)
    known = [TRAINER.accuracy(values, sets.test) for values in (base, *models)]
    assert known[0] + 0.02 < known[1] < known[2]
    alone = [TRAINER.accuracy(TRAINER.expert(base, own, SEED), sets.test) for own in data]
    assert known[2] > max(alone) + 0.02
