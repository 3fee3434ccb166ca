"""Methods that drop changes by chance or by rank, against their definitions."""

import torch
from peers import ours

from git_theta_plugins.merges import breadcrumbs, della


def test_della_keeps_what_its_definition_says():
    row = torch.tensor([[3.0, -1.0, 2.0, 0.0, -4.0]])
    probabilities = della.keeping(row, 0.5, 0.2)
    torch.testing.assert_close(probabilities, torch.tensor([[0.6, 0.4, 0.5, 0.3, 0.7]]))
    assert della.keeping(torch.ones(1), 0.5, 0.2).tolist() == [0.5]


def test_della_keeps_each_element_as_often_as_its_probability_says():
    base, branch = torch.zeros(4000, 5), torch.tensor([[5.0, 4, 3, 2, 1]]).expand(4000, 5).contiguous()
    found = ours("della", base, [branch], keys=(1,), density=0.5)
    torch.testing.assert_close(
        (found != 0).double().mean(0), torch.tensor([0.65, 0.575, 0.5, 0.425, 0.35]).double(), rtol=0, atol=0.03
    )
    torch.testing.assert_close(found.mean(0), branch[0], rtol=0.1, atol=0)


def test_breadcrumbs_drop_outliers_before_noise():
    vector = torch.tensor([10.0, -9, 1, 2, -3, 4, 5, -6, 7, 8])
    kept = breadcrumbs.masked(vector.clone(), 0.5, 0.2)
    assert kept.tolist() == [0, 0, 0, 0, 0, 4, 5, -6, 7, 8]
    assert breadcrumbs.masked(vector.clone(), 1.0, 0.2).tolist() == vector.tolist()
