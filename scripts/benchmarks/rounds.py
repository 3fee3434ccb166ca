"""ColD Fusion (https://arxiv.org/abs/2212.01378): the accuracy of a model after each round of eight contributors."""

from __future__ import annotations

import shutil
import statistics
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file

from benchmarks.digits import CLASSES, digits
from benchmarks.quality import ONE_THREAD, commit
from benchmarks.report import markdown
from benchmarks.tools import THETA, Repository, environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.digits import Data, Sets, Trainer, Values

CONTRIBUTORS = 8
EACH = (5, 7, 10)
SCRIPT = Path(__file__).parents[1] / "cold_fusion"


def shares(sets: Sets, count: int) -> list[Data]:
    """Return the examples of each contributor: those of some classes in an eighth of all, without overlap."""
    return [
        sets.training.of(slice(contributor, None, CONTRIBUTORS)).within(
            [(contributor + offset) % len(CLASSES) for offset in range(count)]
        )
        for contributor in range(CONTRIBUTORS)
    ]


def run(trainer: Trainer, base: Values, data: list[Data], rounds: int, root: Path) -> list[Values]:
    """Return the model after each round: contributors push branches, and the maintainer runs ``scripts/cold_fusion``.

    Args:
        trainer: The trainer of the contributors.
        base: The model that round 1 starts from.
        data: The examples of each contributor.
        rounds: Number of rounds.
        root: An empty folder for the repositories.
    """
    env = environment(root / "home") | ONE_THREAD
    contributors = Repository(root / "contributors", THETA, env)
    contributors.git("theta", "install", "--global")
    shared, maintainer = root / "shared.git", root / "maintainer"
    contributors.git("init", "--quiet", "--bare", "--initial-branch=main", str(shared))
    contributors.git("remote", "add", "origin", str(shared))
    commit(contributors, base, "base")
    contributors.git("push", "--quiet", "origin", "main")
    contributors.git("clone", "--quiet", str(shared), str(maintainer))
    models = []
    for number in range(1, rounds + 1):
        contributors.git("fetch", "--quiet", "origin")
        contributors.git("checkout", "--quiet", "--force", "--detach", "origin/main")
        start = models[-1] if models else base
        names = [f"round-{number}/{contributor}" for contributor in range(len(data))]
        for contributor, (name, part) in enumerate(zip(names, data, strict=True)):
            commit(contributors, trainer.expert(start, part, 100 * number + contributor), name)
            contributors.git("branch", name)
            contributors.git("reset", "--quiet", "--soft", "origin/main")
        contributors.git("push", "--quiet", "origin", *names)
        subprocess.run([SCRIPT, str(number)], cwd=maintainer, env=env, check=True, capture_output=True)
        models.append(load_file(maintainer / contributors.model.name))
    return models


def measure(
    trainer: Trainer, seeds: int, rounds: int, classes: Sequence[int], root: Path
) -> dict[str, list[list[float]]]:
    """Run rounds, and train each contributor alone for the same number of rounds.

    Args:
        trainer: The trainer of the contributors.
        seeds: Number of repetitions, each with another seed.
        rounds: Number of rounds.
        classes: The numbers of classes per contributor to measure.
        root: The folder to work in.

    Returns:
        Accuracies, one list for each seed: that of the base and those after each round. For contributors that train
        alone, they are means over contributors.
    """
    root.mkdir()
    accuracies: dict[str, list[list[float]]] = {}
    for count in classes:
        together = accuracies.setdefault(f"{count} classes each", [])
        alone = accuracies.setdefault(f"{count} classes each, alone", [])
        for seed in range(seeds):
            folder = root / f"{count}-{seed}"
            folder.mkdir()
            sets = digits(seed)
            base, data = trainer.base(sets, seed), shares(sets, count)
            merged = run(trainer, base, data, rounds, folder)
            together.append([trainer.accuracy(values, sets.test) for values in (base, *merged)])
            solo = [_alone(trainer, sets, base, part, rounds) for part in data]
            alone.append([statistics.mean(figures) for figures in zip(*solo, strict=True)])
            shutil.rmtree(folder)
    return accuracies


def _alone(trainer: Trainer, sets: Sets, base: Values, data: Data, rounds: int) -> list[float]:
    values, accuracies = base, [trainer.accuracy(base, sets.test)]
    for number in range(1, rounds + 1):
        values = trainer.expert(values, data, number)
        accuracies.append(trainer.accuracy(values, sets.test))
    return accuracies


def table(accuracies: dict[str, list[list[float]]]) -> str:
    """Render the accuracies: mean and standard deviation over seeds."""
    rows = [
        [label, *(f"{statistics.mean(at):.3f} ± {statistics.pstdev(at):.3f}" for at in zip(*figures, strict=True))]
        for label, figures in accuracies.items()
    ]
    columns = ["", "base", *(f"round {number + 1}" for number in range(len(rows[0]) - 2))]
    return f"ColD Fusion of {CONTRIBUTORS} contributors\n\n{markdown(columns, rows)}\n"
