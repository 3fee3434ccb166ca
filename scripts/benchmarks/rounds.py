"""ColD Fusion (https://arxiv.org/abs/2212.01378): what a model knows after each round of eight contributors."""

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


def shares(sets: Sets, each: int) -> list[Data]:
    """Return the examples of each contributor, which nobody else has: those of some classes in an eighth of all."""
    return [
        sets.training.of(slice(who, None, CONTRIBUTORS)).within([(who + n) % len(CLASSES) for n in range(each)])
        for who in range(CONTRIBUTORS)
    ]


def run(trainer: Trainer, base: Values, data: list[Data], rounds: int, place: Path) -> list[Values]:
    """Return the model after each round: contributors push branches, and the maintainer runs ``scripts/cold_fusion``.

    Args:
        trainer: What contributors train with.
        base: What round 1 starts from.
        data: Examples of each contributor.
        rounds: How many.
        place: Empty folder for the repositories.
    """
    env = environment(place / "home") | ONE_THREAD
    contributors = Repository(place / "contributors", THETA, env)
    contributors.git("theta", "install", "--global")
    shared, maintainer = place / "shared.git", place / "maintainer"
    contributors.git("init", "--quiet", "--bare", "--initial-branch=main", str(shared))
    contributors.git("remote", "add", "origin", str(shared))
    commit(contributors, base, "base")
    contributors.git("push", "--quiet", "origin", "main")
    contributors.git("clone", "--quiet", str(shared), str(maintainer))
    found = []
    for number in range(1, rounds + 1):
        contributors.git("fetch", "--quiet", "origin")
        contributors.git("checkout", "--quiet", "--force", "--detach", "origin/main")
        start = found[-1] if found else base
        names = [f"round-{number}/{who}" for who in range(len(data))]
        for who, (name, own) in enumerate(zip(names, data, strict=True)):
            commit(contributors, trainer.expert(start, own, 100 * number + who), name)
            contributors.git("branch", name)
            contributors.git("reset", "--quiet", "--soft", "origin/main")
        contributors.git("push", "--quiet", "origin", *names)
        subprocess.run([SCRIPT, str(number)], cwd=maintainer, env=env, check=True, capture_output=True)
        found.append(load_file(maintainer / contributors.model.name))
    return found


def measure(
    trainer: Trainer, seeds: int, rounds: int, classes: Sequence[int], place: Path
) -> dict[str, list[list[float]]]:
    """Run rounds, and let contributors train alone for as long.

    Args:
        trainer: What contributors train with.
        seeds: How often.
        rounds: How many.
        classes: How many of them a contributor has; each of these is tried.
        place: Folder to work in.

    Returns:
        Accuracies, one list for each seed: of the base, and after each round. Alone it is the mean over contributors.
    """
    place.mkdir()
    found: dict[str, list[list[float]]] = {}
    for each in classes:
        together = found.setdefault(f"{each} classes each", [])
        alone = found.setdefault(f"{each} classes each, alone", [])
        for seed in range(seeds):
            folder = place / f"{each}-{seed}"
            folder.mkdir()
            sets = digits(seed)
            base, data = trainer.base(sets, seed), shares(sets, each)
            merged = run(trainer, base, data, rounds, folder)
            together.append([trainer.accuracy(values, sets.test) for values in (base, *merged)])
            own = [_alone(trainer, sets, base, part, rounds) for part in data]
            alone.append([statistics.mean(figures) for figures in zip(*own, strict=True)])
            shutil.rmtree(folder)
    return found


def _alone(trainer: Trainer, sets: Sets, base: Values, data: Data, rounds: int) -> list[float]:
    values, found = base, [trainer.accuracy(base, sets.test)]
    for number in range(1, rounds + 1):
        values = trainer.expert(values, data, number)
        found.append(trainer.accuracy(values, sets.test))
    return found


def table(found: dict[str, list[list[float]]]) -> str:
    """Render the accuracies: mean and standard deviation over seeds."""
    rows = [
        [who, *(f"{statistics.mean(at):.3f} ± {statistics.pstdev(at):.3f}" for at in zip(*figures, strict=True))]
        for who, figures in found.items()
    ]
    columns = ["", "base", *(f"round {number + 1}" for number in range(len(rows[0]) - 2))]
    return f"ColD Fusion of {CONTRIBUTORS} contributors\n\n{markdown(columns, rows)}\n"
