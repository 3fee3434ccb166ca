"""Small matrices are computed with on one core."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from threadpoolctl import threadpool_info

from git_theta_ext.merging.devices.one_core import SMALL, one_core
from git_theta_ext.merging.execution.tasks import is_small_pair
from git_theta_ext.model.tensor import TensorSpec


def _threads() -> set[int]:
    return {torch.get_num_threads(), *(library["num_threads"] for library in threadpool_info())}


def test_libraries_use_one_thread_for_small_matrices_only() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_core(small=True):
            assert _threads() == {1}
        with one_core(small=False):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("rows", "branches", "small"), [(SMALL // 4, 2, True), (SMALL // 4, 3, False)])
def test_size_of_a_pair_counts_the_factors_of_all_branches(rows: int, branches: int, *, small: bool) -> None:
    specs = {name: TensorSpec.of("F32", (rows, 1)) for name in ("a", "b")}
    pair = SimpleNamespace(specs=specs, changed_by=tuple(range(branches)))
    assert is_small_pair(pair) is small
