"""Small tensors in memory are merged and counted by one call of the kernel, with the results of a call for each."""

from __future__ import annotations

import numpy as np
import pytest

from git_theta_ext.coding import merge_kernels
from git_theta_ext.interfaces import dtype
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.execution import fused
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.merging.thresholds import histograms
from git_theta_ext.model.floats import from_float

needs_compiled = pytest.mark.skipif(merge_kernels.compiled is None, reason="the package was built without a C compiler")
METHODS = [
    ("average", {}),
    ("task_arithmetic", {"lambda": 0.3}),
    ("ties", {}),
    ("ties", {"density": 0.5, "majority": "count"}),
    ("ties", {"scope": "tensor"}),
    ("dare", {"density": 0.3}),
    ("dare", {"election": "ties", "seed": 3}),
]
STORED = {"F32": "<u4", "F16": "<u2", "BF16": "<u2"}
SHAPES = [(7,), (40, 50), (40, 50), (0,), (600,), (1,)]


def versions(bench, *, broken=False):
    """Return a base and two sides of tensors of several types, of which one side left some alone."""
    rng = np.random.default_rng(5)
    kinds = {f"{kind}.{at}": (kind, shape) for kind in STORED for at, shape in enumerate(SHAPES)}
    values = {name: rng.standard_normal(shape).astype("f4") for name, (_, shape) in kinds.items()}
    rows = []
    for side in range(3):
        moved = {
            name: array + np.float32(side and 0.01) * rng.choice([-1, 0, 1, 2], array.shape).astype("f4")
            for name, array in values.items()
            if not (side == 1 and name.endswith("4"))
        }
        if broken and side == 2:
            moved["BF16.1"][3, 4] = np.nan
        everything = {name: moved.get(name, array) for name, array in values.items()}
        rows.append(
            bench.manifest(
                {
                    name: (kind, np.frombuffer(from_float(everything[name], dtype(kind)), STORED[kind]).reshape(shape))
                    for name, (kind, shape) in kinds.items()
                }
            )
        )
    return rows


def merged(bench, rows, method, options):
    return apply(plan(rows[0], rows[1:], Rules.only(method, options)), bench.store)


@pytest.mark.parametrize("broken", [False, True], ids=["finite", "NaN"])
@pytest.mark.parametrize(("method", "options"), METHODS, ids=str)
def test_what_is_merged_together_is_what_each_tensor_gives(bench, method, options, broken, monkeypatch):
    rows = versions(bench, broken=broken)
    together = merged(bench, rows, method, options)
    for module in (fused, histograms):
        monkeypatch.setattr(module, "in_memory", lambda *_: [])
    assert together == merged(bench, rows, method, options)
    assert bool(together.failed) is broken


@needs_compiled
def test_tensors_that_are_merged_alike_take_one_call(bench, monkeypatch):
    calls = []
    for name in ("merge", "count"):
        function = getattr(merge_kernels.compiled, name)
        monkeypatch.setattr(
            merge_kernels.compiled, name, lambda *args, name=name, call=function: calls.append(name) or call(*args)
        )
    merged(bench, versions(bench), "ties", {})
    # Of each of three types, tensors that both sides changed are merged; those of one side are counted by themselves.
    assert calls == ["count"] * 12 + ["merge"] * 3
