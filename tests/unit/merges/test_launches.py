"""Methods start few operations on a CUDA device: each takes microseconds to start, and reads and writes its memory."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from git_theta_ext.interfaces import Trim
from git_theta_ext.interfaces.merges import ALL_EQUALS
from git_theta_ext.merging.devices.methods import merge_by
from git_theta_ext.merging.execution.pieces import Checks
from git_theta_ext.merging.thresholds.radix_select import counts
from git_theta_ext.registry import find_merge
from git_theta_ext.testing.merges import drawn

START_NOTHING = {"view", "slice", "select", "split", "as_strided", "expand", "alias", "detach", "t", "transpose"}
START_NOTHING |= {"_unsafe_view", "unsqueeze", "permute", "empty", "empty_like", "new_empty", "unbind", "lift_fresh"}
BLOCKS = 3


class Started(TorchDispatchMode):
    """Counts the operations of torch that would start a kernel or a copy."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ not in START_NOTHING
        return func(*args, **(kwargs or {}))


def started(function):
    mode = Started()
    with mode:
        function()
    return mode.count


@pytest.mark.parametrize(
    ("name", "branches", "most"),
    [
        ("average", 2, 5),
        ("task_arithmetic", 2, 5),
        ("ties", 2, 26),
        ("ties", 8, 68),
        ("slerp", 2, 45 * BLOCKS),
        ("model_stock", 8, 130 * BLOCKS),
    ],
)
def test_a_piece_starts_few_operations(monkeypatch, name, branches, most):
    monkeypatch.setattr("git_theta_plugins.merges._sums._BLOCK", 1 << 14)
    method = find_merge(name)
    piece = drawn(method.contract, (BLOCKS << 14,), branches)
    assert started(lambda: method(piece)) <= most


def test_counting_and_checking_start_few_operations():
    values = torch.randn(1000)
    assert started(lambda: counts(values, -1)) <= 3
    assert started(lambda: counts(values, 0x3F00)) <= 12
    assert started(lambda: Checks().add("", values, 0, 1)) == 1


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_counts_on_a_device_are_those_of_the_processor(share):
    rng = np.random.default_rng(1)
    values = (rng.normal(0, 1e-3, 5000) * (rng.random(5000) >= share)).astype(np.float32)
    values[:6] = 0.0, -0.0, np.float32(1e-45), -1.0, 3e38, -3e38
    common = int((abs(values[values != 0]).view(np.uint32) >> 16)[-1])
    for within in (-1, 0, common, 0x3F80, 0x7FFF):
        expected = counts(values, within)
        found = counts(torch.from_numpy(values), within)
        assert found.dtype == expected.dtype
        assert found.tolist() == expected.tolist()
    assert counts(torch.empty(0), -1).tolist() == counts(np.empty(0, np.float32), -1).tolist()


@pytest.mark.parametrize("votes", ["mass", "count"])
@pytest.mark.parametrize("bits", [0, 1, 0x3F000000])
def test_elections_on_a_device_have_the_bits_of_the_processor(votes, bits):
    """Where signs cancel out, magnitudes equal thresholds, or results are zero, of either sign."""
    rng = np.random.default_rng(2)
    few = np.array([0, -0.0, 0.5, -0.5, 1, -1, 1e-45, -1e-45, 3e-45, -3], np.float32)
    base, *branches = rng.choice(few, (4, 20_000))
    method = find_merge("ties")
    drawn_piece = drawn(method.contract, (1,), 3)
    asked = replace(
        drawn_piece, options={**drawn_piece.options, "majority": votes}, trims=(Trim(bits, ALL_EQUALS),) * 3
    )
    for weights, majority in product([(1.0, 1.0, 1.0), (0.5, 0.0, 2.0)], [1, -1]):
        here, there = (
            replace(asked, weights=weights, majority=majority, base=kind(base), branches=tuple(map(kind, branches)))
            for kind in (np.asarray, torch.from_numpy)
        )
        expected, found = merge_by(method, here), method(there)
        assert expected.value.tobytes() == found.value.numpy().tobytes()
        assert (int(expected.votes), int(expected.ties)) == (int(found.votes), int(found.ties))


@pytest.mark.parametrize("elements", [0, 1, 2, 1023, 1024, 3001, 70_000])
def test_products_on_a_device_have_the_bits_of_the_processor(monkeypatch, elements):
    monkeypatch.setattr("git_theta_plugins.merges._sums._BLOCK", 1 << 14)
    rng = np.random.default_rng(elements)
    for name, branches in (("model_stock", 11), ("slerp", 2), ("karcher", 3)):
        method = find_merge(name)
        asked = drawn(method.contract, (elements,), branches)
        base, *sides = (rng.normal(size=elements).astype(np.float32) for _ in range(branches + 1))
        here, there = (
            replace(asked, base=None if asked.base is None else kind(base), branches=tuple(map(kind, sides)))
            for kind in (np.asarray, torch.from_numpy)
        )
        assert merge_by(method, here).tobytes() == method(there).numpy().tobytes()
