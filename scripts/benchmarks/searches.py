"""What a search gains: merges that are chosen by the accuracy on validation images, evaluated on unseen images.

Experts on parts of the digits are merged by the default method and by what ``git theta merge --search`` finds. Then a
pool of 30 LoRAs is recycled (https://arxiv.org/abs/2602.12323), of which a few were trained on digits.
"""

from __future__ import annotations

import json
import shlex
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmarks.adapters import applied, fresh, trained
from benchmarks.digits import CLASSES, Data, digits
from benchmarks.quality import ONE_THREAD, commit
from benchmarks.report import markdown
from benchmarks.tools import THETA, Repository, environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.digits import Sets, Trainer, Values

NAME = "search"
"""The name among merge methods, for the command line."""
EVALUATE = Path(__file__).with_name("evaluate_digits.py")
LAMBDAS = "{from: 0.2, to: 1, steps: 5}"
GRID = f"""version: 1
candidates:
  - method: average
  - {{method: task_arithmetic, with: {{lambda: {LAMBDAS}}}}}
  - {{method: ties, with: {{density: [0.2, 0.5], lambda: {LAMBDAS}}}}}
  - {{method: breadcrumbs, with: {{lambda: {LAMBDAS}}}}}
  - {{method: consensus_ta, with: {{alpha: {LAMBDAS}}}}}
  - {{method: tsv_m, with: {{alpha: {LAMBDAS}}}}}
  - {{method: iso_c, with: {{alpha: {LAMBDAS}}}}}
"""
EVOLUTION = """version: 1
search: evolution
trials: 40
candidates:
  - method: average
  - method: task_arithmetic
    with: {lambda: 1}
    weights: {from: 0, to: 1}
"""
GREEDY = """version: 1
branches: greedy
candidates:
  - method: average
"""
SEARCHES = {"grid of methods": GRID, "evolution of weights": EVOLUTION, "greedy soup": GREEDY}

USEFUL, POOL = 6, 30
RECYCLE = """version: 1
branches: greedy
candidates:
  - {method: lora_concat}
  - {method: lora_concat, with: {combine: sum}}
"""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        values: The merged values.
        branches: The branches that it merged.
        candidates: How many candidates were evaluated.
        score: The best accuracy on the validation images.
    """

    values: Values
    branches: tuple[str, ...]
    candidates: int
    score: float


class Pool:
    """A repository with a base and branches, without statistics.

    Args:
        folder: The folder to create.
        base: Values of the branch ``main``.
        branches: Values of the branches.
        validation: The images by which candidates are evaluated.
        model: If the values are factors of LoRAs, the model that they belong to.
    """

    def __init__(
        self, folder: Path, base: Values, branches: dict[str, Values], validation: Data, model: Values | None = None
    ) -> None:
        folder.mkdir()
        self._env = environment(folder / "home") | ONE_THREAD
        self.repository = Repository(folder / "repository", THETA, self._env)
        commit(self.repository, base, "base")
        self.repository.git("tag", "base")
        for name, values in branches.items():
            self.repository.git("checkout", "--quiet", "-b", name, "main")
            commit(self.repository, values, name)
        self.repository.git("checkout", "--quiet", "main")
        self.branches = tuple(branches)
        self._search = folder / "search.yml"
        np.savez(folder / "validation.npz", inputs=validation.inputs.numpy(), labels=validation.labels.numpy())
        words = [sys.executable, str(EVALUATE), str(folder / "validation.npz")]
        self._command = f"{shlex.join(words)} {{checkpoint}}"
        if model is not None:
            save_file(model, folder / "base.safetensors")
            self._command += f" {shlex.quote(str(folder / 'base.safetensors'))}"

    def merge(self, branches: Sequence[str], *options: str) -> Values:
        """Merge branches by git, return the merged values, and go back to the base."""
        words = [word for option in options for word in ("-X", option)]
        self.repository.git("merge", "--quiet", "--no-ff", "-s", "theta", *words, *branches)
        return self._taken()

    def search(self, text: str, *options: str) -> Found:
        """Search a merge of all branches, return it, and go back to the base."""
        self._search.write_text(text, encoding="utf-8")
        words = ["theta", "merge", "--json", "--search", str(self._search), "--eval", self._command, *options]
        command = ["git", *words, *self.branches]
        done = subprocess.run(command, cwd=self.repository.path, env=self._env, stdout=subprocess.PIPE, check=False)
        if done.returncode > 1:  # 1: nothing is better than the base, so nothing is merged
            done.check_returncode()
        printed = json.loads(done.stdout)
        best = printed["best"]
        return Found(self._taken(), tuple(best["branches"]), len(printed["candidates"]) - 1, best["score"])

    def _taken(self) -> Values:
        values = load_file(self.repository.model)
        self.repository.git("reset", "--quiet", "--hard", "base")
        return values


def run(trainer: Trainer, seeds: int, folder: Path, splits: Sequence[str]) -> dict[str, Any]:
    """Measure and print; see ``measure``."""
    results = measure(trainer, seeds, folder, splits)
    print(table(results), flush=True)
    return results


def measure(trainer: Trainer, seeds: int, folder: Path, splits: Sequence[str]) -> dict[str, Any]:
    """Merge experts by default and by searches, and recycle LoRAs.

    Args:
        trainer: The trainer of the models.
        seeds: Number of repetitions, each with another seed.
        folder: The folder to work in.
        splits: Keys of ``SPLITS``.
    """
    folder.mkdir()
    merged: dict[str, dict[str, list[float]]] = {split: defaultdict(list) for split in splits}
    recycled: dict[str, list[float]] = defaultdict(list)
    for seed in range(seeds):
        sets = digits(seed)
        base = trainer.base(sets, seed)
        for split in splits:
            for name, figure in _searched(trainer, sets, base, split, seed, folder / "experts").items():
                merged[split][name].append(figure)
            shutil.rmtree(folder / "experts")
        for name, figure in recycle(trainer, sets, base, seed, folder / "pool").items():
            recycled[name].append(figure)
        shutil.rmtree(folder / "pool")
    return {"merged": merged, "recycled": recycled}


def _searched(  # noqa: PLR0913, PLR0917 - what to train, and where
    trainer: Trainer, sets: Sets, base: Values, split: str, seed: int, folder: Path
) -> dict[str, float]:
    parts = sets.parts(split)
    experts = {f"expert-{n}": trainer.expert(base, part, 100 * seed + n) for n, part in enumerate(parts)}
    pool = Pool(folder, base, experts, sets.validation)
    figures = {"base": trainer.accuracy(base, sets.test)}
    for method in ("average", "task_arithmetic", "ties"):
        figures[f"{method}, defaults"] = trainer.accuracy(pool.merge(pool.branches, f"method={method}"), sets.test)
    for name, text in SEARCHES.items():
        found = pool.search(text)
        figures[f"search: {name}"] = trainer.accuracy(found.values, sets.test)
        figures[f"{name}: candidates"] = found.candidates
    return figures


def adapters(trainer: Trainer, sets: Sets, base: Values, seed: int) -> dict[str, Values]:
    """Train a pool of LoRAs: six on digits, and four times as many on other tasks with the same images.

    The others learn shuffled labels, labels of other classes, images upside down, or nothing: their factors are random.
    """
    generator = torch.Generator().manual_seed(seed)
    pool = {}
    for number in range(POOL):
        part = sets.training.of(slice(number, None, POOL // 2))
        kind, name = number % (POOL // USEFUL), f"adapter-{number:02}"
        labels = part.labels
        if kind == 1:
            labels = labels[torch.randperm(len(labels), generator=generator)]
        elif kind == 2:  # noqa: PLR2004 - the kinds are listed above
            labels = (labels + 1 + number // 5) % len(CLASSES)
        inputs = part.inputs.flip(1) if kind == 3 else part.inputs  # noqa: PLR2004 - as above
        factors = fresh(base, 1000 * seed + number)
        if kind < 4:  # noqa: PLR2004 - as above
            pool[name] = trained(trainer, base, factors, Data(inputs, labels), number)
        else:
            pool[name] = noise(factors, generator)
    return pool


def noise(factors: Values, generator: torch.Generator) -> Values:
    """Draw factors that change the model about as much as training does."""
    return {name: 0.05 * torch.randn(value.shape, generator=generator) for name, value in factors.items()}


def recycle(trainer: Trainer, sets: Sets, base: Values, seed: int, folder: Path) -> dict[str, float]:
    """Return the accuracy of the base with adapters that are selected, with all of them, and with none."""
    folder.mkdir()
    start, generator = fresh(base, seed), torch.Generator().manual_seed(seed)

    def accuracy(factors: Values) -> float:
        return trainer.accuracy(applied(base, factors), sets.test)

    pool = Pool(folder / "trained", start, adapters(trainer, sets, base, seed), sets.validation, base)
    found = pool.search(RECYCLE)
    useful = [name for number, name in enumerate(pool.branches) if number % (POOL // USEFUL) == 0]
    some = [pool.branches[n] for n in torch.randperm(POOL, generator=generator)[: len(found.branches)].tolist()]
    figures = {
        "none": accuracy(start),
        "all 30": accuracy(pool.merge(pool.branches, "method=lora_concat")),
        "as many, at random": accuracy(pool.merge(some, "method=lora_concat")),
        "selected by the search": accuracy(found.values),
        "the 6 on digits": accuracy(pool.merge(useful, "method=lora_concat")),
        "a LoRA trained on the validation images": accuracy(trained(trainer, base, start, sets.validation, seed)),
        "selected adapters": len(found.branches),
        "of them on digits": len(set(found.branches) & set(useful)),
        "candidates": found.candidates,
    }
    random = {f"random-{n:02}": noise(start, generator) for n in range(POOL)}
    control = Pool(folder / "random", start, random, sets.validation, base)
    figures["selected of 30 random LoRAs"] = accuracy(control.search(RECYCLE).values)
    return figures


def table(results: dict[str, Any]) -> str:
    """Render the figures: mean and standard deviation over seeds."""
    merged, splits = results["merged"], list(results["merged"])
    names = list(dict.fromkeys(name for split in splits for name in merged[split]))
    rows = [[name, *(_cell(merged[split].get(name, [])) for split in splits)] for name in names]
    recycled = [[name, _cell(figures)] for name, figures in results["recycled"].items()]
    return f"Searches\n\n{markdown(['', *splits], rows)}\n\nLoRAs\n\n{markdown(['', 'accuracy'], recycled)}\n"


def _cell(figures: Sequence[float]) -> str:
    if not figures:
        return ""
    mean, spread = statistics.mean(figures), statistics.pstdev(figures)
    return f"{mean:.3f} ± {spread:.3f}" if mean <= 1 else f"{mean:.1f} ± {spread:.1f}"
