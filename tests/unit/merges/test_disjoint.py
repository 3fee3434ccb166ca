"""Methods that decide about each element by what the branches changed, on numbers to check by hand."""

import pytest
import torch
from peers import ours

BASE = torch.tensor([1.0, 1.0, 1.0, 1.0])
ONE = torch.tensor([3.0, 1.0, 0.0, 2.0])  # changes 2, 0, -1, 1
OTHER = torch.tensor([2.0, 0.0, 1.0, -1.0])  # changes 1, -1, 0, -2


@pytest.mark.parametrize(
    ("name", "asked", "expected"),
    [
        # Squared norms 6 and 6, so halves; where signs differ the larger change wins: (2 + 1) / 2, -1, -1, -2.
        ("sce", {}, [2.5, 0.0, 0.0, -1.0]),
        # Variances 1/4, 1/4, 1/4, 9/4: half of the four varying elements are the last and the first of equal ones.
        ("sce", {"density": 0.5}, [2.5, 1.0, 1.0, -1.0]),
        # Means where both changed, whole where one did.
        ("ram", {}, [2.5, 0.0, 0.0, 0.5]),
        # Both share two elements and change one alone: 1 + 0.5 min(2, 1) = 1.5 times these.
        ("ram_plus", {"r": 0.5, "alpha": 1.0}, [2.5, -0.5, -0.5, 0.5]),
        ("magmax", {}, [3.0, 0.0, 0.0, -1.0]),
        ("magmax", {"lambda": 0.5}, [2.0, 0.5, 0.5, 0.0]),
        # Sums 3, -1, -1, -1.
        ("emr", {}, [3.0, 0.0, 0.0, -1.0]),
    ],
)
def test_changes_are_merged_as_defined(name, asked, expected):
    assert ours(name, BASE, [ONE, OTHER], **asked).tolist() == expected


def test_nearswap_moves_by_no_more_than_t():
    assert ours("nearswap", None, [ONE, OTHER], t=1.0).tolist() == [2.0, 0.0, 1.0, 1.0]
    assert ours("nearswap", None, [ONE, OTHER], t=0.0).tolist() == ONE.tolist()
    assert ours("nearswap", None, [ONE, OTHER], t=3.0).tolist() == OTHER.tolist()


def test_linear_weights_may_negate_a_task():
    assert ours("linear", None, [BASE, ONE, OTHER], (1.0, 1.0, -1.0)).tolist() == [2.0, 2.0, 0.0, 4.0]


def test_sce_weighs_small_updates_by_their_energy():
    # Theirs takes all branches for equal once the mean squares are below 1e-6, as those of most fine-tunes are.
    base, change = torch.zeros(4), torch.tensor([1.0, 1.0, 1.0, 1.0])
    merged = ours("sce", base, [1e-4 * change, 3e-4 * change])
    torch.testing.assert_close(merged, 2.8e-4 * change)


def test_sce_breaks_a_tie_of_signs_in_favour_of_the_positive_change():
    assert ours("sce", torch.zeros(2), [torch.tensor([1.0, 1.0]), torch.tensor([-1.0, 1.0])]).tolist() == [1.0, 1.0]


def test_magmax_takes_the_positive_one_of_opposite_changes_in_any_order():
    one, other = torch.tensor([1.0, -2.0]), torch.tensor([-1.0, 2.0])
    for branches in ([one, other], [other, one]):
        assert ours("magmax", torch.zeros(2), branches).tolist() == [1.0, 2.0]


def test_arcee_fusion_takes_only_outliers():
    one, other = torch.zeros(4, 8), 1e-3 * torch.arange(32.0).reshape(4, 8)
    other[2, 5] = 4.0
    merged = ours("arcee_fusion", None, [one, other])
    assert merged[2].tolist() == other[2].tolist()  # a row that diverges as a whole
    assert not merged[[0, 1, 3]].any()
