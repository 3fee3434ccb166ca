"""PCB-Merging balances the competition of parameters as its definition says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import cases, drawn, largest, ulps
from peers import ours


def between(values, low, high):
    """Return values from 0 to 1, clipped to those at two places of their order."""
    order = np.sort(values)
    if order[low] == order[high]:
        return 1.0 * (values >= order[high])
    return (np.clip(values, order[low], order[high]) - order[low]) / (order[high] - order[low])


def defined(vectors, density):
    """Return the merged change of flat task vectors, element by element."""
    count = len(vectors[0])
    cut = int(count * 1e-4), int(count * (1 - 1e-4) - 1)
    numerator = divisor = np.zeros(count)
    for vector in vectors:
        sizes = np.abs(vector)
        clipped = np.clip(sizes, *np.sort(sizes)[list(cut)])
        own = np.exp(len(vectors) * between(sizes, *cut) ** 2)
        score = own * np.tanh(vector * sum(vectors))
        share = between(score, int(count * (1 - density)), count - 1)
        numerator = numerator + np.sign(vector) * clipped * share
        divisor = divisor + share
    return numerator / np.maximum(divisor, 1e-12)


@pytest.mark.parametrize("kind", ["normal", "bfloat16", "few", "huge"])
@pytest.mark.parametrize("density", [0.1, 0.6])
def test_elements_have_shares_by_size_and_agreement(kind, density):
    for base, branches in cases(kind, [(24, 17), (300, 2), (40,), (2, 3, 4)]):
        vectors = [(branch - base).double().reshape(-1).numpy() for branch in branches]
        with np.errstate(over="ignore"):
            change = torch.from_numpy(defined(vectors, density)).reshape(base.shape)
        found = ours("pcb", base, branches, density=density)
        assert ulps(found, (base + change).float(), largest(base, *branches)) <= 1


def test_a_weight_scales_the_change_of_a_branch_and_lambda_that_of_all():
    base, one, two = torch.zeros(40), drawn((40,), 1), drawn((40,), 2)
    whole = ours("pcb", base, [one, two], density=0.9)
    parts = [ours("pcb", base, [one, two], weights, density=0.9) for weights in ((1.0, 0.0), (0.0, 1.0))]
    torch.testing.assert_close(sum(parts), whole)
    torch.testing.assert_close(ours("pcb", base, [one, two], density=0.9, **{"lambda": 0.5}), whole / 2)


def test_what_is_dropped_is_that_of_the_base():
    base, one, two = drawn((100,), 0), drawn((100,), 1), drawn((100,), 2)
    found = ours("pcb", base, [one, two], density=0.1)
    assert 80 <= int((found == base).sum()) < 100


def test_elements_that_are_all_alike_are_the_mean():
    base = torch.ones(3)
    assert ours("pcb", base, [base + 2, base + 4]).tolist() == [4, 4, 4]
    assert ours("pcb", torch.ones(1), [torch.zeros(1), 3 * torch.ones(1)]).tolist() == [1.5]
