"""Accuracy of merged models: experts, each fine-tuned on a part of the digits, are merged by every method.

Experts are committed to branches of a repository and merged by ``git merge -s theta``. Options are chosen by the
accuracy on the validation examples, with ``git_theta_ext.merge``, which gives the same values.
"""

from __future__ import annotations

import shutil
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file

import git_theta_ext
from benchmarks.digits import CLASSES, SPLITS, digits
from benchmarks.report import markdown
from benchmarks.tools import MODEL, THETA, Repository, environment
from git_theta_ext.statistics.save import save

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks.digits import Sets, Trainer, Values

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""The matrices are so small that several threads would mostly wait for each other."""

_SCALES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
_TWO = 2

METHODS: dict[str, tuple[str, tuple[float, ...]]] = {
    "average": ("", ()),
    "task_arithmetic": ("lambda", _SCALES),
    "ties": ("lambda", _SCALES),
    "dare": ("lambda", _SCALES),
    "della": ("lambda", _SCALES),
    "breadcrumbs": ("lambda", _SCALES),
    "consensus_ta": ("alpha", _SCALES),
    "slerp": ("", ()),
    "nuslerp": ("", ()),
    "multislerp": ("", ()),
    "karcher": ("", ()),
    "model_stock": ("", ()),
    "tsv_m": ("alpha", _SCALES),
    "iso_c": ("alpha", _SCALES),
    "knots": ("lambda", _SCALES),
    "actmat": ("cutoff", (0.0, 1e-4, 1e-3, 1e-2, 1e-1)),
    "fisher": ("", ()),
    "regmean": ("alpha", (0.1, 0.5, 0.7, 0.9, 0.99)),
    "mats": ("iterations", (5, 10, 20, 50, 100)),
}
"""Methods that merge whole models, with the option that is chosen by the validation examples, and its values."""


@dataclass(frozen=True)
class Trial:
    """A base and its experts, committed to a repository.

    Attributes:
        trainer: The trainer of the models.
        sets: The examples.
        split: The key in ``SPLITS`` of the classes of each expert.
        base: Values of the branch ``main``.
        experts: Values of the branches, by name.
        repository: The repository.
    """

    trainer: Trainer
    sets: Sets
    split: str
    base: Values
    experts: dict[str, Values]
    repository: Repository

    @classmethod
    def prepare(cls, trainer: Trainer, split: str, seed: int, repository: Repository) -> Trial:
        """Train the models, collect their statistics and commit both."""
        sets = digits(seed)
        base = trainer.base(sets, seed)
        commit(repository, base, "base")
        repository.git("tag", "base")
        experts = {}
        for number, part in enumerate(sets.parts(split)):
            name = f"expert-{number}"
            experts[name] = trainer.expert(base, part, 100 * seed + number)
            repository.git("checkout", "--quiet", "-b", name, "main")
            save_file(experts[name], repository.model)
            save(repository.model, trainer.statistics(experts[name], part), len(part))
            commit(repository, experts[name], name)
        repository.git("checkout", "--quiet", "main")
        return cls(trainer, sets, split, base, experts, repository)

    def merge(self, method: str, **options: float) -> Values:
        """Merge all experts by git, return the merged values, and go back to the base."""
        words = [word for name, value in options.items() for word in ("-X", f"{name}={value}")]
        self.repository.attempt("merge", "--quiet", "-s", "theta", "-X", f"method={method}", *words, *self.experts)
        # The statistics of the branches do not describe the merged model. They are in conflict, so git does not commit.
        merged = load_file(self.repository.model)
        self.repository.git("reset", "--quiet", "--hard", "base")
        return merged

    def choose(self, method: str) -> tuple[float, Values]:
        """Return the value of the option that is best on the validation examples, and the merged model."""
        option, values = METHODS[method]
        models = [f"{name}:{MODEL}" for name in self.experts]
        where = {"base": f"main:{MODEL}", "repository": self.repository.path}
        merged = {value: git_theta_ext.merge(models, method, **where, **{f"{option}_": value}) for value in values}
        best = max(merged, key=lambda value: self.trainer.accuracy(merged[value], self.sets.validation))
        return best, merged[best]

    def figures(self, values: Values) -> dict[str, float]:
        """Return accuracies: on all test examples, the mean over parts with known classes, and the lowest of a part."""
        test, parts = self.sets.test, dict.fromkeys(SPLITS[self.split])
        per_task = [self.trainer.accuracy(values, test.within(part), part) for part in parts]
        alone = [self.trainer.accuracy(values, test.within(part)) for part in parts]
        return {
            "whole": self.trainer.accuracy(values, test),
            "per_task": statistics.mean(per_task),
            "least": min(alone),
        }


@dataclass
class Figures:
    """Accuracies by split, by method and by measure, one for each seed."""

    accuracies: dict[str, dict[str, dict[str, list[float]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    )

    def add(self, split: str, name: str, figures: dict[str, float]) -> None:
        """Add the figures of one seed."""
        for measure, figure in figures.items():
            self.accuracies[split][name][measure].append(figure)


def commit(repository: Repository, values: Values, name: str) -> None:
    """Write a checkpoint and commit the work tree."""
    save_file(values, repository.model)
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "--message", name)


def measure(
    trainer: Trainer, seeds: int, folder: Path, splits: Sequence[str], methods: Sequence[str]
) -> dict[str, Any]:
    """Train and merge experts.

    Args:
        trainer: The trainer of the experts.
        seeds: Number of repetitions, each with other examples and initial values.
        folder: The folder to work in.
        splits: Keys of ``SPLITS``.
        methods: Merge methods; those that are not in ``METHODS`` are ignored.
    """
    folder.mkdir()
    env = environment(folder / "home") | ONE_THREAD
    results = Figures()
    for split in splits:
        for seed in range(seeds):
            repository = Repository(folder / "repository", THETA, env)
            trial = Trial.prepare(trainer, split, seed, repository)
            for name, figures in [*_references(trial, seed), *_merges(trial, methods)]:
                results.add(split, name, figures)
            shutil.rmtree(repository.path)
    return {"model": trainer.model, "seeds": seeds, "splits": results.accuracies}


def _references(trial: Trial, seed: int) -> Iterator[tuple[str, dict[str, float]]]:
    yield "base", trial.figures(trial.base)
    experts = [trial.figures(values) for values in trial.experts.values()]
    own = [
        trial.trainer.accuracy(values, trial.sets.test.within(part), part)
        for values, part in zip(trial.experts.values(), SPLITS[trial.split], strict=True)
    ]
    yield "best expert", max(experts, key=lambda figures: figures["whole"])
    yield "experts, each on its part", {"per_task": statistics.mean(own)}
    together = trial.trainer.expert(trial.base, trial.sets.training, seed)
    yield "one expert for everything", trial.figures(together)


def _merges(trial: Trial, methods: Sequence[str]) -> Iterator[tuple[str, dict[str, float]]]:
    for method in METHODS:
        if method not in methods or (method in ("slerp", "nuslerp") and len(trial.experts) != _TWO):
            continue
        figures = trial.figures(trial.merge(method))
        if METHODS[method][1]:
            figures["option"], values = trial.choose(method)
            figures["chosen"] = trial.figures(values)["whole"]
        yield method, figures


def table(results: dict[str, Any]) -> str:
    """Render the accuracies: mean and standard deviation over seeds."""
    splits = results["splits"]
    columns = ["", *(f"{split}, {measure.replace('_', ' ')}" for split in splits for measure in _columns(split))]
    names = list(dict.fromkeys(name for rows in splits.values() for name in rows))
    rows = [
        [name, *(_cell(splits[split].get(name, {}), measure) for split in splits for measure in _columns(split))]
        for name in names
    ]
    return f"{results['model']}, {results['seeds']} seeds\n\n{markdown(columns, rows)}\n"


def _columns(split: str) -> tuple[str, ...]:
    return ("whole", "chosen") if SPLITS[split][0] == CLASSES else ("whole", "chosen", "per_task")


def _cell(row: dict[str, list[float]], measure: str) -> str:
    figures = row.get(measure)
    return f"{statistics.mean(figures):.3f} ± {statistics.pstdev(figures):.3f}" if figures else ""
