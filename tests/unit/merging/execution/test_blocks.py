"""On the CPU a piece is merged in blocks that stay in the cache, to the same bits."""

import sys

import numpy as np
import pytest

from git_theta_ext.coding import merge_kernels
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.devices.cpu import Cpu
from git_theta_ext.merging.devices.device import Devices
from git_theta_ext.merging.execution.engine import Engine
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules


class Blocks(Cpu):
    def __init__(self, block):
        self.block = block


@pytest.mark.parametrize(
    ("method", "options"),
    [("average", {}), ("dare", {"election": "ties"}), ("ties", {}), ("ties", {"ties": "exact"})],
    ids=str,
)
def test_the_bits_do_not_depend_on_the_size_of_blocks(bench, method, options, monkeypatch):
    monkeypatch.setattr(merge_kernels, "compiled", None)  # it takes pieces as they are
    rng = np.random.default_rng(4)
    drawn = [rng.integers(-9, 9, (3, 1000)).astype(np.float32) for _ in range(2)]
    values = [{"a": array[0], "b": array[1].astype(np.float64), "c": array[2].astype(np.float16)} for array in drawn]
    base, *sides = (bench.manifest(row) for row in ({name: 0 * array for name, array in values[0].items()}, *values))
    results = []
    for block in (7, 64, sys.maxsize):
        devices = Devices((Blocks(block),))
        outcome = apply(
            plan(base, sides, Rules.only(method, options)), bench.store, lambda on=devices: Engine(bench.store, on)
        )
        assert not outcome.conflicts
        results.append(outcome.manifest)
    assert results[0] == results[1] == results[2]
