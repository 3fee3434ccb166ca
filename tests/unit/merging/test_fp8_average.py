"""The average of 8-bit floats is rounded once, for every pair of values of every type."""

import pytest
import torch

import git_theta_ext

TYPES = (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_the_mean_of_any_two_values_is_rounded_to_the_nearest_even(kind):
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8).view(kind)
    finite = codes[torch.isfinite(codes.float())]
    sides = [{"w": finite.repeat(len(finite))}, {"w": finite.repeat_interleave(len(finite))}]
    merged = git_theta_ext.merge(sides, "average", base={"w": torch.zeros(len(sides[0]["w"])).to(kind)})["w"]
    mean = (sides[0]["w"].double() + sides[1]["w"].double()) / 2
    values = finite.double().unique()
    above = torch.searchsorted(values, mean).clamp(1, len(values) - 1)
    low, high = values[above - 1], values[above]
    even = low.float().to(kind).view(torch.uint8) % 2 == 0
    nearest = torch.where(mean - low < high - mean, low, torch.where(mean - low > high - mean, high, high))
    nearest = torch.where((mean - low == high - mean) & even, low, nearest)
    assert torch.equal(merged.double(), nearest)
