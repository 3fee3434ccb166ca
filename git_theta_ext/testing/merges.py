"""Conformance of a merge method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from git_theta_ext.interfaces import MergeMethod

_SHAPES = ((), (0,), (1,), (7,), (3, 5), (2, 3, 4))
_ELEMENTWISE = 1000


class MergeMethodTests:
    """What every merge method has to keep; subclass it and give the method.

    A class of tests for pytest::

        class TestMine(MergeMethodTests):
            @pytest.fixture
            def method(self):
                return METHOD
    """

    @pytest.fixture
    def method(self) -> MergeMethod:
        """The method under test; override it."""
        raise NotImplementedError

    @pytest.mark.parametrize("count", [2, 3, 5])
    @pytest.mark.parametrize("shape", _SHAPES, ids=str)
    def test_the_result_is_like_a_branch(self, method: MergeMethod, shape: tuple[int, ...], count: int) -> None:
        """Shape and element type are the branches'."""
        merged = _merge(method, *_drawn(shape, count))
        assert merged.shape == shape
        assert str(merged.dtype) == "torch.float32"

    def test_float64_stays_float64(self, method: MergeMethod) -> None:
        """Parameters of 64-bit floats are merged in their own width."""
        base, branches = _drawn((4, 3), 2)
        merged = _merge(method, base.double(), [branch.double() for branch in branches])
        assert str(merged.dtype) == "torch.float64"

    def test_the_inputs_stay_as_they_are(self, method: MergeMethod) -> None:
        """Nothing is merged in place."""
        base, branches = _drawn((4, 6), 3)
        kept = [tensor.clone() for tensor in (base, *branches)]
        _merge(method, base, branches)
        assert all(bool((one == other).all()) for one, other in zip(kept, (base, *branches), strict=True))

    def test_the_result_is_reproducible(self, method: MergeMethod) -> None:
        """Twice the same gives the same bits."""
        base, branches = _drawn((8, 9), 3)
        assert _bits(_merge(method, base, branches)) == _bits(_merge(method, base, branches))

    def test_finite_inputs_give_a_finite_result(self, method: MergeMethod) -> None:
        """Equal branches, zeros and an unchanged base are no reason for NaN."""
        base, (branch, _) = _drawn((4, 4), 2)
        for branches in ([branch, branch], [branch * 0, branch * 0], [base, base]):
            assert bool(_merge(method, base, branches).isfinite().all())

    def test_symmetric_methods_do_not_mind_the_order(self, method: MergeMethod) -> None:
        """Whoever merges whom, the bits are the same."""
        if not method.contract.symmetric:
            pytest.skip("the method does not promise it")
        base, branches = _drawn((6, 7), 4)
        expected = _bits(_merge(method, base, branches))
        for turn in range(1, 4):
            assert _bits(_merge(method, base, [*branches[turn:], *branches[:turn]])) == expected
        assert _bits(_merge(method, base, branches[::-1])) == expected

    def test_elementwise_methods_do_not_mind_the_pieces(self, method: MergeMethod) -> None:
        """A tensor merged in pieces has the bits of one merged whole."""
        if method.contract.granularity != "element":
            pytest.skip("the method does not promise it")
        base, branches = _drawn((_ELEMENTWISE,), 2)
        whole = _bits(_merge(method, base, branches))
        for size in (1, 7, 64, 333):
            pieces = [slice(at, at + size) for at in range(0, _ELEMENTWISE, size)]
            parts = [_merge(method, base[piece], [branch[piece] for branch in branches]) for piece in pieces]
            assert b"".join(map(_bits, parts)) == whole

    def test_a_base_is_needed_only_where_the_contract_says_so(self, method: MergeMethod) -> None:
        """Files that both sides added have no common ancestor."""
        if method.contract.needs_base:
            pytest.skip("the method needs one")
        base, branches = _drawn((5, 3), 2)
        params = dict(method.contract.parameters)
        assert _bits(method(None, branches, params)) == _bits(method(base, branches, params))


def _drawn(shape: tuple[int, ...], count: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    import torch

    generator = torch.Generator().manual_seed(7)
    base = torch.randn(shape, generator=generator)
    return base, [base + 0.1 * torch.randn(shape, generator=generator) for _ in range(count)]


def _merge(method: MergeMethod, base: torch.Tensor, branches: Sequence[torch.Tensor]) -> torch.Tensor:
    return method(base if method.contract.needs_base else None, branches, dict(method.contract.parameters))


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()
