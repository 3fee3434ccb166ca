"""A training run that saves the model every few steps: real gradients and a real optimizer on a small task.

The encoder learns which spans of text are neighbours (Giorgi et al., "DeCLUTR", ACL 2021, arXiv 2006.03659). The text
is the source code of Python's standard library. Its words are numbered by frequency, as in the vocabulary of BERT.
Every tenth version is special, as in the history of a real model: only the last two layers are trained, a LoRA is
trained and merged, or new tokens extend the vocabulary.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from benchmarks.checkpoints import FAMILIES, weights
from benchmarks.encoder import depth, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    Model = dict[str, torch.Tensor]

RATE = 2e-5
LORA_RATE = 5e-4
RANK = 8
SCALE = 2.0
TEMPERATURE = 0.05
DROPOUT = 0.1
RESERVED = 999  # the first ids of BERT's vocabulary: padding, special tokens and unused ids
WORDS = "embeddings.word_embeddings.weight"
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
SPECIAL = ("last layers", "lora", "grown")


@dataclass(frozen=True)
class Plan:
    """The plan of a training run.

    Attributes:
        base: Safetensors file of a BERT encoder to start from; None for random weights of ``family``.
        family: Shapes of the random weights.
        dtype: Element type of the saved versions, ``bf16`` or ``fp32``; the training itself is in float32.
        versions: Number of saved versions; the first is the base.
        steps: Number of optimizer steps between two versions.
        special: The interval of special versions.
        pairs: Number of pairs of neighbouring spans in a batch.
        length: Length of a span in tokens.
        new_tokens: Number of rows by which the embedding grows.
    """

    base: Path | None = None
    family: str = "minilm"
    dtype: str = "bf16"
    versions: int = 50
    steps: int = 4
    special: int = 10
    pairs: int = 16
    length: int = 32
    new_tokens: int = 64

    def kind(self, version: int) -> str:
        """Return the kind of training before a version is saved: ``full`` or one of ``SPECIAL``."""
        if version == 0 or version % self.special:
            return "full"
        return SPECIAL[(version // self.special - 1) % len(SPECIAL)]


@dataclass(frozen=True)
class Run:
    """The results of a training run.

    Attributes:
        versions: The checkpoints, oldest first.
        states: The training states at the first and the last two versions: the parameters and Adam's moments, as
            ``exp_avg.NAME`` and ``exp_avg_sq.NAME``, all in float32.
        grown: The versions before and after the vocabulary was extended, if it was.
    """

    versions: list[Path]
    states: list[Path]
    grown: tuple[Path, Path] | None


def checkpoints(plan: Plan, folder: Path) -> Run:
    """Return the versions of a plan. They are only trained if the folder does not have them from an earlier run."""
    start = f"{plan.base.stem}-{plan.base.stat().st_size}" if plan.base else plan.family
    size = f"{plan.versions}x{plan.steps}-{plan.special}-{plan.pairs}x{plan.length}-{plan.new_tokens}"
    directory = folder / f"{start}-{plan.dtype}-{size}"
    if not directory.exists():
        unfinished = directory.with_suffix(".unfinished")
        unfinished.mkdir(parents=True, exist_ok=True)
        _Trainer(plan).run(unfinished)
        unfinished.rename(directory)
    versions = sorted(directory.glob("[0-9]*"))
    grown = next((n for n in range(plan.versions) if plan.kind(n) == "grown"), None)
    pair = (versions[grown - 1], versions[grown]) if grown else None
    return Run(versions, sorted(directory.glob("state-*")), pair)


class _Trainer:
    """The float32 parameters and their AdamW state."""

    def __init__(self, plan: Plan) -> None:
        torch.manual_seed(0)
        self.plan = plan
        self.model = _start(plan)
        self.words = _source_text(self.model[WORDS].shape[0])
        trained = [name for name, tensor in self.model.items() if tensor.is_floating_point()]
        self.parameters = {name: self.model[name].requires_grad_() for name in trained}
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=RATE)
        # A warm-up of a tenth, then half a cosine to a tenth.
        total = plan.versions * plan.steps
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: min(1, 10 * (step + 1) / total) * (0.55 + 0.45 * math.cos(math.pi * min(1, step / total))),
        )

    def run(self, folder: Path) -> None:
        """Train and save all versions."""
        for version in range(self.plan.versions):
            kind = self.plan.kind(version)
            if kind == "lora":
                self._merge_lora()
            elif version:
                if kind == "grown":
                    self._grow()
                loss = self._train(last_layers=kind == "last layers")
                print(f"version {version} of {self.plan.versions}: {kind}, loss {loss:.3f}", file=sys.stderr)
            _save(folder / f"{version:04}.safetensors", self.model, DTYPES[self.plan.dtype])
            if version == 0 or version >= self.plan.versions - 2:
                _save(folder / f"state-{version:04}.safetensors", self.model | self._moments(), torch.float32)

    def _loss(self, model: Mapping[str, torch.Tensor]) -> torch.Tensor:
        starts = torch.randint(len(self.words) - 2 * self.plan.length, (self.plan.pairs, 1))
        left, right = (
            encode(model, self.words[starts + at + torch.arange(self.plan.length)], DROPOUT)
            for at in (0, self.plan.length)
        )
        return cross_entropy(left @ right.T / TEMPERATURE, torch.arange(self.plan.pairs))

    def _train(self, *, last_layers: bool) -> float:
        last = tuple(f"encoder.layer.{n}." for n in range(depth(self.model) - 2, depth(self.model)))
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(not last_layers or name.startswith(last))
        for _ in range(self.plan.steps):
            self.optimizer.zero_grad()
            loss = self._loss(self.model)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
        return loss.item()

    def _merge_lora(self) -> None:
        """Train factors for the saved version, and merge them into it as users do."""
        for parameter in self.parameters.values():
            parameter.requires_grad_(False)  # noqa: FBT003 - torch's own signature
            parameter.copy_(parameter.to(DTYPES[self.plan.dtype]))
        roles = ("self.query", "self.key", "self.value", "output.dense")
        names = [f"encoder.layer.{n}.attention.{role}.weight" for n in range(depth(self.model)) for role in roles]
        down = [torch.randn(RANK, self.model[name].shape[1]).mul_(0.02).requires_grad_() for name in names]
        up = [torch.zeros(self.model[name].shape[0], RANK, requires_grad=True) for name in names]
        optimizer = torch.optim.AdamW([*down, *up], lr=LORA_RATE)
        for _ in range(self.plan.steps):
            updates = {name: SCALE * b @ a for name, a, b in zip(names, down, up, strict=True)}
            optimizer.zero_grad()
            self._loss(self.model | {name: self.model[name] + update for name, update in updates.items()}).backward()
            optimizer.step()
        with torch.no_grad():
            for name, a, b in zip(names, down, up, strict=True):
                self.model[name] += SCALE * b @ a

    def _grow(self) -> None:
        """Extend the vocabulary; new rows are the mean of the old ones plus a little noise."""
        table = self.parameters[WORDS]
        rows = self.plan.new_tokens
        state = self.optimizer.state[table]
        with torch.no_grad():
            new = table.mean(0) + 0.02 * torch.randn(rows, table.shape[1])
            table.set_(torch.cat([table, new]))
        table.grad = None
        for moment in ("exp_avg", "exp_avg_sq"):
            state[moment] = torch.cat([state[moment], torch.zeros(rows, table.shape[1])])

    def _moments(self) -> Model:
        return {
            f"{moment}.{name}": self.optimizer.state[parameter][moment]
            for name, parameter in self.parameters.items()
            for moment in ("exp_avg", "exp_avg_sq")
            if moment in self.optimizer.state[parameter]
        }


def _start(plan: Plan) -> Model:
    if plan.base:
        return {name: t.float() if t.is_floating_point() else t for name, t in load_file(plan.base).items()}
    family = FAMILIES[plan.family]
    drawn = {name: weights(family, name, 0).view("<f4").reshape(shape) for name, shape in family.shapes.items()}
    return {name: torch.from_numpy(array) for name, array in drawn.items()}


def _save(path: Path, tensors: Model, dtype: torch.dtype) -> None:
    cast = {name: t.detach().to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
    save_file(cast, path, metadata={"format": "pt"})


def _source_text(vocabulary: int) -> torch.Tensor:
    """Return the words of the standard library's modules as token ids, int64 [words]."""
    modules = sorted(Path(os.__file__).parent.glob("*.py"))
    words = re.findall(r"[a-z]+|\d|[^\w\s]", " ".join(p.read_text("utf-8") for p in modules).lower())
    ranks = {word: rank for rank, (word, _) in enumerate(Counter(words).most_common())}
    ids = np.fromiter((ranks[word] for word in words), np.int64, len(words))
    return torch.from_numpy((RESERVED + ids) % vocabulary)
