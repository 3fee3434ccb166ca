"""Accuracy of merged LoRAs, compared with the mean of their factors."""

from __future__ import annotations

import shutil
import statistics
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from benchmarks.digits import BATCH, SPLITS, digits
from benchmarks.quality import ONE_THREAD, commit
from benchmarks.report import markdown
from benchmarks.tools import THETA, Repository, environment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.digits import Data, Trainer, Values

RANK = 4
EPOCHS, RATE = 15, 3e-3
MERGES: dict[str, tuple[str, ...]] = {
    "lora_concat": ("method=lora_concat",),
    "lora_svd": ("method=lora_svd",),
    "lora_concat, sum": ("method=lora_concat", "combine=sum"),
    "lora_svd, sum": ("method=lora_svd", "combine=sum"),
}
STARTS = ("one start", "own starts")
"""Whether all experts start from the same factors, or each from its own random ones, as in training libraries."""


def fresh(values: Values, seed: int) -> Values:
    """Draw factors for every matrix. One of the two is zero, so that they do not change the model."""
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for name, weight in values.items():
        if weight.dim() > 1:
            outputs, inputs = weight.shape
            layer = name.removesuffix(".weight")
            factors[f"{layer}.lora_A.weight"] = torch.randn((RANK, inputs), generator=generator) / inputs**0.5
            factors[f"{layer}.lora_B.weight"] = torch.zeros(outputs, RANK)
    return factors


def applied(values: Values, factors: Values) -> Values:
    """Return the values plus the products of the factors."""
    sums = dict(values)
    for name, a in factors.items():
        if name.endswith(".lora_A.weight"):
            layer = name.removesuffix(".lora_A.weight")
            sums[f"{layer}.weight"] = values[f"{layer}.weight"] + factors[f"{layer}.lora_B.weight"] @ a
    return sums


def trained(trainer: Trainer, values: Values, factors: Values, data: Data, seed: int) -> Values:
    """Train the factors only."""
    learned = {name: value.clone().requires_grad_() for name, value in factors.items()}
    model, generator = trainer.loaded(values), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(learned.values(), lr=RATE)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(data), generator=generator).split(BATCH):
            optimizer.zero_grad()
            logits = functional_call(model, applied(values, learned), data.inputs[batch])
            cross_entropy(logits, data.labels[batch]).backward()
            optimizer.step()
    return {name: value.detach() for name, value in learned.items()}


def measure(trainer: Trainer, seeds: int, folder: Path, methods: Sequence[str]) -> dict[str, Any]:
    """Train experts as LoRAs on the halves, merge them by git, and average their factors.

    Args:
        trainer: The trainer of the base.
        seeds: Number of repetitions, each with another seed.
        folder: The folder to work in.
        methods: Merge methods; those that are not in ``MERGES`` are ignored.
    """
    folder.mkdir()
    env = environment(folder / "home") | ONE_THREAD
    accuracies: dict[str, dict[str, list[float]]] = {start: defaultdict(list) for start in STARTS}
    for start in STARTS:
        for seed in range(seeds):
            repository = Repository(folder / "repository", THETA, env)
            sets = digits(seed)
            base = trainer.base(sets, seed)
            first, experts = _experts(trainer, base, sets.parts("halves"), seed, repository, alike=start == STARTS[0])
            adapters = {"base": first}
            adapters |= {f"expert on {list(part)}": e for part, e in zip(SPLITS["halves"], experts, strict=True)}
            adapters["mean of the factors"] = {name: (experts[0][name] + experts[1][name]) / 2 for name in first}
            adapters |= {name: _merged(repository, words) for name, words in MERGES.items() if name in methods}
            for name, factors in adapters.items():
                accuracies[start][name].append(trainer.accuracy(applied(base, factors), sets.test))
            shutil.rmtree(repository.path)
    return accuracies


def _experts(  # noqa: PLR0913 - all but the last say what to train
    trainer: Trainer, base: Values, parts: list[Data], seed: int, repository: Repository, *, alike: bool
) -> tuple[Values, list[Values]]:
    """Train a LoRA on each part, commit it to a branch, and return the initial factors and those of the experts."""
    first = fresh(base, seed)
    commit(repository, first, "base")
    repository.git("tag", "base")
    experts = []
    for number, part in enumerate(parts):
        start = first if alike else fresh(base, 100 * (seed + 1) + number)
        experts.append(trained(trainer, base, start, part, seed))
        repository.git("checkout", "--quiet", "-b", f"expert-{number}", "base")
        commit(repository, experts[-1], f"expert {number}")
    repository.git("checkout", "--quiet", "main")
    return first, experts


def _merged(repository: Repository, words: tuple[str, ...]) -> Values:
    options = [part for word in words for part in ("-X", word)]
    if repository.attempt("merge", "--quiet", "-s", "theta", *options, "expert-0", "expert-1"):
        raise RuntimeError(f"{words} did not merge")
    merged = load_file(repository.model)
    repository.git("reset", "--quiet", "--hard", "base")
    return merged


def table(accuracies: dict[str, Any]) -> str:
    """Render the accuracies: mean and standard deviation over seeds."""
    starts = [accuracies[start] for start in STARTS]
    rows = [
        [name, *(f"{statistics.mean(start[name]):.3f} ± {statistics.pstdev(start[name]):.3f}" for start in starts)]
        for name in starts[0]
    ]
    return f"LoRAs of rank {RANK}, halves\n\n{markdown(['', *STARTS], rows)}\n"
