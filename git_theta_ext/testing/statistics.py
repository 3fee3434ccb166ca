"""The conformance suite of kinds of statistics.

Subclass ``StatisticsTests`` in a test module and give it a fixture ``kind``::

    class TestMine(StatisticsTests):
        @pytest.fixture
        def kind(self):
            return KIND
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import torch

    from git_theta_ext.interfaces import StatisticsKind

_ROWS = 15


def observed(kind: StatisticsKind, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Return normal numbers as what a kind observes of a parameter.

    Args:
        kind: The kind.
        shape: Of the parameter; a matrix unless the kind observes gradients.
        generator: Draws the numbers.
    """
    import torch

    size = shape if kind.observes == "gradients" else (_ROWS, shape[-1] if kind.observes == "inputs" else shape[0])
    return torch.randn(size, generator=generator)


class StatisticsTests:
    """Conformance suite; a subclass has a fixture ``kind``, the kind of statistics."""

    @pytest.fixture
    def values(self, kind: StatisticsKind) -> torch.Tensor:
        """Return what the kind observes of a parameter of shape [3, 5]."""
        import torch

        return observed(kind, (3, 5), torch.Generator().manual_seed(1))

    def test_the_name_is_that_of_a_module_and_can_precede_a_slash(self, kind: StatisticsKind) -> None:
        """Statistics are stored under ``NAME/PARAMETER``."""
        assert kind.name.isidentifier()
        assert not kind.name.startswith("_")

    @pytest.mark.parametrize("shape", [(), (4,), (3, 5), (2, 3, 4), (0, 5)])
    def test_shape_is_a_shape_or_none(self, kind: StatisticsKind, shape: tuple[int, ...]) -> None:
        """This holds for parameters of any shape."""
        declared = kind.shape(shape)
        assert declared is None or (
            isinstance(declared, tuple) and all(type(size) is int and size >= 0 for size in declared)
        )

    def test_a_sum_has_the_declared_shape_and_is_float32(self, kind: StatisticsKind, values: torch.Tensor) -> None:
        """Files of statistics are checked against ``shape`` before they are used."""
        total, count = kind.terms(values)
        assert tuple(total.shape) == kind.shape((3, 5))
        assert str(total.dtype) == "torch.float32"
        assert bool(total.isfinite().all())
        assert count >= 1

    def test_values_are_left_as_they_are(self, kind: StatisticsKind, values: torch.Tensor) -> None:
        """The values may be a module's own tensors, and the sum is modified in place."""
        before = values.clone()
        total, _ = kind.terms(values)
        total += 1
        assert bool((values == before).all())

    def test_rows_may_come_in_parts(self, kind: StatisticsKind, values: torch.Tensor) -> None:
        """A batch gives what its examples give one after another, up to rounding."""
        if kind.observes == "gradients":
            pytest.skip("a gradient is one example's")
        whole, count = kind.terms(values)
        parts = [kind.terms(part) for part in (values[:4], values[4:5], values[5:])]
        assert sum(number for _, number in parts) == count
        assert bool((sum(total for total, _ in parts) - whole).abs().max() <= 1e-5 * whole.abs().max())
