"""What holds for merges whatever the values: copies merge to themselves, what nobody changed stays, order is nothing.

Unless bits are promised, values agree within a unit in the last place of the largest number, which is what rounding
task vectors to float32 costs, or two where several of them are added. Left out are ``mats``, which goes on until the
error is small enough (see test_statistics.py), and ``wudi``, whose steps have a size that rounding may turn around.
"""

import pytest
import torch
from cases import KINDS, SHAPES, drawn, largest, tensors, ulps
from peers import kept, ours

from git_theta_ext.registry import built_in, find_merge

ITERATE = ("mats", "wudi")
METHODS = [
    name for name in built_in("merges") if find_merge(name).contract.granularity != "pair" and name not in ITERATE
]
DECOMPOSE = ("tsv_m", "iso_c", "iso_cts", "knots", "actmat", "regmean")
SIDED = ("arcee_fusion", "nearswap")
ARCS = ("slerp", "nuslerp", "model_stock")
PLAIN = ["normal", "bfloat16", "few", "denormal", "huge", "spread"]


def merged(name, base, branches, numbers=None, **asked):
    """Merge by any method; what else it is given for a branch depends on the branch's number."""
    contract = find_merge(name).contract
    numbers = range(len(branches)) if numbers is None else numbers
    weights = tuple((1.0, 0.25, 2.0)[number] for number in numbers) if contract.weighted else ()
    trims = kept(base, branches, base.numel()) if contract.trims else ()
    keys = tuple(3 + number for number in numbers) if contract.stochastic else ()
    sidecars = {kind: tuple(known(kind, base.shape, number) for number in numbers) for kind in contract.sidecars}
    return ours(name, base, branches, weights, trims, keys=keys, sidecars=sidecars, **asked)


def known(kind, shape, number):
    if kind == "fisher":
        return 0.5 + drawn(shape, 30 + number).square()
    rows = drawn((100, shape[1] if kind == "gram" else shape[0]), 40 + number)
    return rows.T @ rows / 100


def allowed(name, count):
    return min(count, find_merge(name).contract.branches[1])


def shapes_of(name):
    """Return the shapes of what a method merges by itself, and not like the mean."""
    return [(24, 17), (60, 2), (2, 60), (1, 1)] if name in DECOMPOSE else SHAPES


# Each with the options that let it keep everything, and weigh by shares where it sums.
COPIES = {
    "average": {},
    "ties": {},
    "dare": {"density": 1.0, "election": "ties"},
    "slerp": {},
    "nuslerp": {},
    "multislerp": {},
    "karcher": {},
    "model_stock": {},
    "knots": {"density": 1.0},
    "actmat": {},
    "fisher": {},
    "regmean": {},
    "max": {},
    "sce": {},
    "ram": {"epsilon": 0.0},
    "ram_plus": {"epsilon": 0.0},
    "magmax": {},
    "emr": {},
    "arcee_fusion": {},
    "nearswap": {},
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in COPIES
        for kind in PLAIN
        # Singular vectors do not reach from the smallest numbers to the largest; the tiniest vectors have no direction.
        if not (name in DECOMPOSE and kind == "spread") and not (name in ARCS and kind == "denormal")
    ],
)
def test_copies_of_a_model_merge_to_itself(name, kind):
    for shape in shapes_of(name):
        base, branches = tensors(kind, 1, shape)
        found = merged(name, base, branches * allowed(name, 3), **COPIES[name])
        assert ulps(found, branches[0], largest(base, *branches)) <= 1


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize(
    ("name", "asked"),
    [("task_arithmetic", "lambda"), ("breadcrumbs", "lambda"), ("consensus_ta", "alpha")],
)
def test_a_share_of_the_sum_of_copies_is_the_change(name, asked, kind):
    options = {asked: 1 / 3.25} | ({"density": 1.0} if name == "breadcrumbs" else {})  # the weights add up to 3.25
    for shape in SHAPES:
        base, branches = tensors(kind, 1, shape)
        assert ulps(merged(name, base, branches * 3, **options), branches[0], base, *branches) <= 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name in METHODS if find_merge(name).contract.needs_base])
def test_what_nobody_changed_has_its_bits(name, kind):
    for shape in shapes_of(name):
        base, _ = tensors(kind, 2, shape)
        assert torch.equal(merged(name, base, [base] * allowed(name, 3)), base)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "spread"])
@pytest.mark.parametrize("name", [name for name in METHODS if name not in SIDED])
def test_the_order_of_the_branches_changes_no_more_than_rounding(name, kind):
    for shape in shapes_of(name):
        base, branches = tensors(kind, allowed(name, 3), shape)
        numbers = list(range(len(branches)))
        expected = merged(name, base, branches, numbers)
        for order in (numbers[::-1], [*numbers[1:], numbers[0]]):
            found = merged(name, base, [branches[number] for number in order], order)
            if find_merge(name).contract.symmetric:
                assert torch.equal(found, expected)
            else:
                assert ulps(found, expected, largest(base, *branches, expected)) <= 2, shape
