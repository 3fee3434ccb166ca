"""Every merge method gives the same bits in one file and in many, and in any order of the parameters."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.merging.model_versions import ModelVersions
from git_theta_ext.merging.models import apply_model
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rule, Rules, choice
from git_theta_ext.model.model_version import ModelVersion
from git_theta_ext.registry import built_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from conftest import Bench

    from git_theta_ext.model.manifest import Parameter

SHAPES: dict[str, tuple[int, ...]] = {
    **{f"layers.{n}.weight": (4 + n % 3, 6) for n in range(12)},
    **{f"layers.{n}.bias": (7,) for n in range(12)},
    **{f"block.{n}.lora_A.weight": (2, 5) for n in range(2)},
    **{f"block.{n}.lora_B.weight": (4, 2) for n in range(2)},
    "convolution": (3, 2, 2, 2),
    "scale": (),
    "tied": (4, 4),
    "also.tied": (4, 4),
}
HALF = [name for name in SHAPES if name.endswith("bias")]
VARIANTS = [
    ("ties", {"ties": "exact"}),
    ("ties", {"scope": "rule", "majority": "count"}),
    ("ties", {"scope": "tensor"}),
    ("dare", {"election": "ties"}),
]
PAIRED = [name for name in built_in("merges") if name.startswith("lora_")]
SINGLE = [(name, {}) for name in built_in("merges") if name not in PAIRED]


def arrays() -> tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    """Return the values of the common ancestor and of two sides, and the statistics of the sides."""
    rng = np.random.default_rng(3)

    def normal(shape: tuple[int, ...]) -> np.ndarray:
        return np.asarray(rng.normal(size=shape), np.float32)

    base = {name: normal(shape) for name, shape in SHAPES.items()}
    versions = [base, *({name: value + normal(value.shape) / 8 for name, value in base.items()} for _ in "ab")]
    for values in versions:
        values["also.tied"] = values["tied"]
        values.update({name: values[name].astype(np.float16) for name in HALF})
    statistics = []
    for _ in "ab":
        found = {f"fisher/{name}": np.abs(normal(shape)) for name, shape in SHAPES.items()}
        for name, shape in SHAPES.items():
            for kind, size in zip(("grad_gram", "gram"), shape if len(shape) == 2 else (), strict=False):
                rows = normal((9, size))
                found[f"{kind}/{name}"] = rows.T @ rows
        statistics.append(found)
    return versions, statistics


class Model:
    """Three versions of a model, with statistics of the sides."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        versions, statistics = arrays()
        self.versions = [self._stored(values) for values in versions]
        self.statistics = dict(enumerate(map(self._stored, statistics)))

    def merged(self, names: Sequence[str], shards: int, rules: Rules) -> dict[str, str]:
        """Return the digests of the merged parameters if the names, in this order, are divided into files."""
        base, *sides = (self._version(values, names, shards) for values in self.versions)
        versions = ModelVersions("m", base, tuple(sides))
        start = partial(Engine, self.bench.store, statistics=self.statistics)
        outcome = apply_model(versions, plan(*versions.manifests(), rules), self.bench.store, start)
        assert not outcome.conflicts
        assert len(outcome.files) == shards
        return {name: value.digest for file in outcome.files.values() for name, value in file.parameters.items()}

    def _stored(self, values: Mapping[str, np.ndarray]) -> dict[str, Parameter]:
        return {name: self.bench.parameter(value) for name, value in values.items()}

    def _version(self, values: Mapping[str, Parameter], names: Sequence[str], shards: int) -> ModelVersion:
        edges = [len(names) * n // shards for n in range(shards + 1)]
        parts = ({name: values[name] for name in names[start:end]} for start, end in pairwise(edges))
        return ModelVersion({str(n): self.bench.manifest(part, head=b"%d" % n) for n, part in enumerate(parts)})


@pytest.fixture(scope="module")
def model(module_bench: Bench) -> Model:
    return Model(module_bench)


@pytest.mark.parametrize(
    ("method", "options"), [*SINGLE, *VARIANTS, *((name, {}) for name in PAIRED)], ids=lambda value: str(value or "")
)
def test_bits_depend_on_neither_files_nor_order(model: Model, method: str, options: dict[str, str]) -> None:
    names = list(SHAPES)
    rules = Rules(choice("average"), (Rule("**.lora_*" if method in PAIRED else "**", choice(method, options)),))
    expected = model.merged(names, 1, rules)
    assert len(expected) == len(SHAPES)
    assert expected != {name: value.digest for name, value in model.versions[1].items()}
    assert model.merged(names, 2, rules) == expected
    assert model.merged(names, 30, rules) == expected
    Random(1).shuffle(names)
    assert model.merged(names, 4, rules) == expected
