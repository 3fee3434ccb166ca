"""What merged models know: accuracy of merges of experts, each fine-tuned on a part of the digits, by every method.

Experts are committed as branches of a repository and merged by ``git merge -s theta``. Whatever is chosen is chosen by
the validation examples, with ``git_theta_ext.merge``, which gives the same values.
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
"""These matrices are so small that threads would do little but wait for each other."""

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
"""Methods that merge whole models, with the option that the validation examples choose, and from what."""


@dataclass(frozen=True)
class Trial:
    """A base and its experts, committed to a repository.

    Attributes:
        trainer: What trained them.
        sets: On what.
        split: How the classes were shared out.
        base: Values of the branch ``main``.
        experts: Values of the branches.
        repository: Where they are.
    """

    trainer: Trainer
    sets: Sets
    split: str
    base: Values
    experts: dict[str, Values]
    repository: Repository

    @classmethod
    def prepare(cls, trainer: Trainer, split: str, seed: int, repository: Repository) -> Trial:
        """Train, collect statistics and commit."""
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
        # The statistics of the merged model are no branch's: they are in conflict, and the merge is not committed.
        found = load_file(self.repository.model)
        self.repository.git("reset", "--quiet", "--hard", "base")
        return found

    def choose(self, method: str) -> tuple[float, Values]:
        """Return the value of the option that is best on the validation examples, and what it merges."""
        option, values = METHODS[method]
        models = [f"{name}:{MODEL}" for name in self.experts]
        where = {"base": f"main:{MODEL}", "repository": self.repository.path}
        merged = {value: git_theta_ext.merge(models, method, **where, **{f"{option}_": value}) for value in values}
        best = max(merged, key=lambda value: self.trainer.accuracy(merged[value], self.sets.validation))
        return best, merged[best]

    def figures(self, values: Values) -> dict[str, float]:
        """Return the accuracy on all test examples, the mean on each part where its classes are told, and the least."""
        test, parts = self.sets.test, dict.fromkeys(SPLITS[self.split])
        told = [self.trainer.accuracy(values, test.within(part), part) for part in parts]
        each = [self.trainer.accuracy(values, test.within(part)) for part in parts]
        return {"whole": self.trainer.accuracy(values, test), "told": statistics.mean(told), "least": min(each)}


@dataclass
class Figures:
    """Accuracies by split, by what was merged and how, and by measure, one for each seed."""

    found: dict[str, dict[str, dict[str, list[float]]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    )

    def add(self, split: str, name: str, figures: dict[str, float]) -> None:
        """Keep what one seed gave."""
        for measure, figure in figures.items():
            self.found[split][name][measure].append(figure)


def commit(repository: Repository, values: Values, name: str) -> None:
    """Write a checkpoint and commit the work tree."""
    save_file(values, repository.model)
    repository.git("add", "--all")
    repository.git("commit", "--quiet", "--message", name)


def measure(trainer: Trainer, seeds: int, place: Path, splits: Sequence[str], methods: Sequence[str]) -> dict[str, Any]:
    """Train and merge.

    Args:
        trainer: Of the experts.
        seeds: How often, each time with other examples and other first values.
        place: Folder to work in.
        splits: Of ``SPLITS``.
        methods: Those of ``METHODS`` count.
    """
    place.mkdir()
    env = environment(place / "home") | ONE_THREAD
    kept = Figures()
    for split in splits:
        for seed in range(seeds):
            repository = Repository(place / "repository", THETA, env)
            trial = Trial.prepare(trainer, split, seed, repository)
            for name, figures in [*_references(trial, seed), *_merges(trial, methods)]:
                kept.add(split, name, figures)
            shutil.rmtree(repository.path)
    return {"model": trainer.model, "seeds": seeds, "splits": kept.found}


def _references(trial: Trial, seed: int) -> Iterator[tuple[str, dict[str, float]]]:
    yield "base", trial.figures(trial.base)
    experts = [trial.figures(values) for values in trial.experts.values()]
    own = [
        trial.trainer.accuracy(values, trial.sets.test.within(part), part)
        for values, part in zip(trial.experts.values(), SPLITS[trial.split], strict=True)
    ]
    yield "best expert", max(experts, key=lambda found: found["whole"])
    yield "experts, each on its part", {"told": statistics.mean(own)}
    together = trial.trainer.expert(trial.base, trial.sets.training, seed)
    yield "one expert for everything", trial.figures(together)


def _merges(trial: Trial, methods: Sequence[str]) -> Iterator[tuple[str, dict[str, float]]]:
    for method in METHODS:
        if method not in methods or (method in ("slerp", "nuslerp") and len(trial.experts) != _TWO):
            continue
        found = trial.figures(trial.merge(method))
        if METHODS[method][1]:
            found["option"], values = trial.choose(method)
            found["chosen"] = trial.figures(values)["whole"]
        yield method, found


def table(found: dict[str, Any]) -> str:
    """Render the accuracies: mean and standard deviation over seeds."""
    splits = found["splits"]
    columns = ["", *(f"{split}, {what}" for split in splits for what in _columns(split))]
    names = list(dict.fromkeys(name for rows in splits.values() for name in rows))
    rows = [
        [name, *(_cell(splits[split].get(name, {}), what) for split in splits for what in _columns(split))]
        for name in names
    ]
    return f"{found['model']}, {found['seeds']} seeds\n\n{markdown(columns, rows)}\n"


def _columns(split: str) -> tuple[str, ...]:
    return ("whole", "chosen") if SPLITS[split][0] == CLASSES else ("whole", "chosen", "told")


def _cell(row: dict[str, list[float]], what: str) -> str:
    figures = row.get(what)
    return f"{statistics.mean(figures):.3f} ± {statistics.pstdev(figures):.3f}" if figures else ""
