"""The conformance suite of merge methods."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from git_theta_ext.coding.merge_kernels import compiled
from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import Elected, Piece, Trim
from git_theta_ext.merging.devices.methods import merge_by
from git_theta_ext.records import replace
from git_theta_ext.registry import find_statistics
from git_theta_ext.testing.fused_steps import merged_by_arrays, merged_by_steps, with_arrays
from git_theta_ext.testing.statistics import observed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from git_theta_ext.interfaces import Array, MergeContract, MergeMethod

_SHAPES = ((), (0,), (1,), (7,), (3, 5), (2, 3, 4))
_COUNTS = (2, 3, 5)
_ELEMENTS = 1000
_EVERYTHING = Trim(0, 1 << 62)
_LARGE = Trim(0x3D800000, 1 << 62)
_EXACTLY = Trim(0x3C000000, 1)
_LARGER = ((4096,), (70, 70), (300, 16), (16, 300), (30, 12, 10))
_SMALL = 1 << 10
"""Bytes that are of no consequence."""
_BUFFERS = 1 << 17
"""Bytes in which numpy converts operands of operations on several types, whatever their size."""


class MergeMethodTests:
    """What every merge method must do; subclass it and override ``method``.

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

    @pytest.mark.parametrize("count", _COUNTS)
    @pytest.mark.parametrize("shape", _SHAPES, ids=str)
    def test_the_result_is_like_a_branch(self, method: MergeMethod, shape: tuple[int, ...], count: int) -> None:
        """The result has the shape and the element type of the branches."""
        merged = _merged(method, drawn(method.contract, shape, _allowed(method, count)))
        assert merged.shape == shape
        assert str(merged.dtype) == "torch.float32"

    def test_float64_stays_float64(self, method: MergeMethod) -> None:
        """Parameters of 64-bit floats are merged in float64."""
        merged = _merged(method, _wide(drawn(method.contract, (4, 4), _allowed(method, 2))))
        assert str(merged.dtype) == "torch.float64"

    def test_the_inputs_stay_as_they_are(self, method: MergeMethod) -> None:
        """No input is modified."""
        piece = drawn(method.contract, (4, 4), _allowed(method, 3))
        kept = [tensor.clone() for tensor in _tensors(piece)]
        _merged(method, piece)
        assert all(bool((one == other).all()) for one, other in zip(kept, _tensors(piece), strict=True))

    def test_the_result_is_reproducible(self, method: MergeMethod) -> None:
        """Equal inputs give equal bits."""
        piece = drawn(method.contract, (8, 9), _allowed(method, 3))
        assert _bits(_merged(method, piece)) == _bits(_merged(method, piece))

    def test_finite_inputs_give_a_finite_result(self, method: MergeMethod) -> None:
        """Equal branches, zeros and an unchanged base give no NaN."""
        piece = drawn(method.contract, (4, 4), _allowed(method, 2))
        first, *rest = piece.branches
        base = first * 0 + 1 if piece.base is None else piece.base
        for branches in ([first] * (1 + len(rest)), [first * 0] * (1 + len(rest)), [base] * (1 + len(rest))):
            assert bool(_merged(method, replace(piece, branches=tuple(branches))).isfinite().all())

    def test_every_option_takes_its_bounds(self, method: MergeMethod) -> None:
        """Every allowed value gives a finite result or a MergeError."""
        piece = drawn(method.contract, (6, 5), _allowed(method, 3))
        for name, option in method.contract.options.items():
            values: Sequence[float | str] = option.choices or (option.least, option.most)
            for value in values:
                try:
                    merged = _merged(method, replace(piece, options={**piece.options, name: value}))
                except MergeError:
                    continue
                assert bool(merged.isfinite().all()), (name, value)

    def test_symmetric_methods_do_not_mind_the_order(self, method: MergeMethod) -> None:
        """The bits do not depend on the order of the branches."""
        if not method.contract.symmetric:
            pytest.skip("the method does not promise it")
        piece = drawn(method.contract, (6, 7), _allowed(method, 4))
        expected = _bits(_merged(method, piece))
        order = list(range(len(piece.branches)))
        for turn in order:
            assert _bits(_merged(method, _permuted(piece, [*order[turn:], *order[:turn]]))) == expected
        assert _bits(_merged(method, _permuted(piece, order[::-1]))) == expected

    def test_elementwise_methods_do_not_mind_the_pieces(self, method: MergeMethod) -> None:
        """A tensor merged in pieces has the bits of one merged whole."""
        if method.contract.granularity != "element":
            pytest.skip("the method does not promise it")
        piece = drawn(method.contract, (_ELEMENTS,), _allowed(method, 2))
        whole = _bits(_merged(method, piece))
        for size in (1, 7, 64, 333):
            parts = [_merged(method, _cut(piece, at, at + size)) for at in range(0, _ELEMENTS, size)]
            assert b"".join(map(_bits, parts)) == whole

    def test_methods_of_rows_do_not_mind_the_blocks(self, method: MergeMethod) -> None:
        """A matrix merged in blocks of rows has the bits of one merged whole."""
        if method.contract.granularity != "row":
            pytest.skip("the method does not promise it")
        piece = drawn(method.contract, (12, 5), _allowed(method, 2))
        parts = [_merged(method, replace(_cut(piece, at, at + 4), start=at * 5)) for at in range(0, 12, 4)]
        assert b"".join(map(_bits, parts)) == _bits(_merged(method, piece))

    def test_a_base_is_needed_only_where_the_contract_says_so(self, method: MergeMethod) -> None:
        """Files that both sides added have no common ancestor."""
        if method.contract.needs_base:
            pytest.skip("the method needs one")
        piece = drawn(method.contract, (5, 3), _allowed(method, 2))
        base = piece.branches[0] + 1
        assert _bits(_merged(method, piece)) == _bits(_merged(method, replace(piece, base=base)))

    @pytest.mark.parametrize("count", _COUNTS)
    @pytest.mark.parametrize("shape", _LARGER, ids=str)
    def test_a_call_holds_no_more_than_the_contract_says(
        self, method: MergeMethod, shape: tuple[int, ...], count: int
    ) -> None:
        """Merges are planned by ``scratch``: it is reported before they run."""
        piece = drawn(method.contract, shape, _allowed(method, count))
        most = method.contract.scratch(shape, len(piece.branches))
        assert scratch_bytes(method, piece) <= 4 * most + _SMALL
        assert scratch_bytes(method, _wide(piece)) <= 8 * most + _SMALL

    def test_integers_stay_integers(self, method: MergeMethod) -> None:
        """Methods that merge integers give integers."""
        if not method.contract.integers:
            pytest.skip("the method merges none")
        piece = drawn(method.contract, (5, 3), _allowed(method, 2))
        branches = tuple((branch * 10).long() for branch in piece.branches)
        merged = _merged(method, replace(piece, base=None if piece.base is None else branches[0], branches=branches))
        assert str(merged.dtype) == "torch.int64"

    def test_arrays_give_the_bits_of_tensors(self, method: MergeMethod) -> None:
        """On the CPU a method gets arrays if its contract says so."""
        if not method.contract.arrays:
            pytest.skip("the method takes tensors only")
        pieces = [drawn(method.contract, shape, _allowed(method, count)) for shape in _SHAPES for count in _COUNTS]
        for values in (*pieces, *map(_wide, pieces)):
            merged = merge_by(method, with_arrays(values))
            array, tensor = merged.value if isinstance(merged, Elected) else merged, _merged(method, values)
            assert array.dtype.name == str(tensor.dtype).removeprefix("torch.")
            assert array.shape == tensor.shape
            assert not method.contract.exact or array.tobytes() == _bits(tensor)

    def test_fused_steps_give_the_bits_of_arrays(self, method: MergeMethod) -> None:
        """The steps of the contract are what the method does."""
        if method.contract.fused is None or compiled is None:
            pytest.skip("there are no steps, or no compiled module")
        for count in _COUNTS:
            piece = drawn(method.contract, (_ELEMENTS,), _allowed(method, count))
            piece = replace(piece, trims=(_LARGE,) * len(piece.branches) if method.contract.trims else ())
            for variant in map(with_arrays, _variants(method.contract, piece)):
                if variant.trims == piece.trims:  # others keep some of equal magnitudes, which no kernel does
                    assert merged_by_steps(method, variant) == merged_by_arrays(method, variant)

    def test_a_call_with_arrays_holds_no_more_than_the_contract_says(self, method: MergeMethod) -> None:
        """Arrays are counted as tensors are."""
        if not method.contract.arrays:
            pytest.skip("the method takes tensors only")
        shape = (256, 256)
        piece = drawn(method.contract, shape, _allowed(method, 3))
        most = method.contract.scratch(shape, len(piece.branches))
        assert array_scratch_bytes(method, piece) <= 4 * most + _BUFFERS
        assert array_scratch_bytes(method, _wide(piece)) <= 8 * most + _BUFFERS


def drawn(contract: MergeContract, shape: tuple[int, ...], count: int) -> Piece:
    """Return a piece of normal numbers that has all that a contract asks for, at the options' defaults."""
    import torch

    generator = torch.Generator().manual_seed(7)
    base = torch.randn(shape, generator=generator)
    branches = tuple(base + 0.1 * torch.randn(shape, generator=generator) for _ in range(count))
    statistics = {kind: tuple(_statistics(kind, shape, generator) for _ in range(count)) for kind in contract.sidecars}
    return Piece(
        name="w",
        base=base if contract.needs_base else None,
        branches=branches,
        options={name: option.default for name, option in contract.options.items()},
        weights=(1.0,) * count,
        trims=(_EVERYTHING,) * count if contract.trims else (),
        keys=tuple(range(1, count + 1)) if contract.stochastic else (),
        sidecars={kind: tensors for kind, tensors in statistics.items() if None not in tensors},
    )


def scratch_bytes(method: MergeMethod, piece: Piece) -> int:
    """Return the most bytes that a method holds besides a piece and its result, whatever words its options have."""
    from git_theta_ext.testing.memory import Watch

    peaks: list[int] = []
    for variant in _variants(method.contract, piece):
        with Watch(_tensors(variant)) as watch:
            result = _merged(method, variant)
        peaks.append(watch.peak - result.numel() * result.element_size())
    return max(peaks)


def array_scratch_bytes(method: MergeMethod, piece: Piece) -> int:
    """Return the same as ``scratch_bytes`` for arrays of numpy."""
    import tracemalloc

    peaks: list[int] = []
    for variant in map(with_arrays, _variants(method.contract, piece)):
        merge_by(method, variant)  # what it imports does not count
        tracemalloc.start()
        merged = merge_by(method, variant)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        peaks[-1] -= (merged.value if isinstance(merged, Elected) else merged).nbytes
    return max(peaks)


def _variants(contract: MergeContract, piece: Piece) -> Iterator[Piece]:
    """Yield a piece with all words of its options, with weights and without, and with both kinds of trims."""
    weights = [piece.weights, *([tuple(2.0 + n for n in range(len(piece.branches)))] if contract.weighted else [])]
    weights += [tuple((-1.0) ** n for n in range(len(piece.branches)))] if contract.negative_weights else []
    trims = [piece.trims, *([(_EXACTLY,) * len(piece.branches)] if contract.trims else [])]
    words = [{}, *({name: word} for name, option in contract.options.items() for word in option.choices)]
    for branch_weights, kept, chosen in product(weights, trims, words):
        yield replace(piece, weights=branch_weights, trims=kept, options={**piece.options, **chosen})


def _statistics(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor | None:
    kind = find_statistics(name)
    if kind.shape(shape) is None:
        return None
    return kind.terms(observed(kind, shape, generator))[0]


def _allowed(method: MergeMethod, count: int) -> int:
    least, most = method.contract.branches
    return min(max(count, least), most)


def _wide(piece: Piece) -> Piece:
    base = None if piece.base is None else piece.base.double()
    sidecars = {kind: tuple(tensor.double() for tensor in tensors) for kind, tensors in piece.sidecars.items()}
    return replace(piece, base=base, branches=tuple(b.double() for b in piece.branches), sidecars=sidecars)


def _tensors(piece: Piece) -> list[torch.Tensor]:
    inputs = [*piece.branches, *(tensor for tensors in piece.sidecars.values() for tensor in tensors)]
    return inputs if piece.base is None else [piece.base, *inputs]


def _permuted(piece: Piece, order: Sequence[int]) -> Piece:
    def of(values: Sequence[object]) -> tuple[object, ...]:
        return tuple(values[number] for number in order) if values else ()

    sidecars = {kind: of(tensors) for kind, tensors in piece.sidecars.items()}
    fields = {name: of(getattr(piece, name)) for name in ("branches", "weights", "trims", "keys")}
    return replace(piece, sidecars=sidecars, **fields)  # type: ignore[arg-type]


def _cut(piece: Piece, start: int, end: int) -> Piece:
    return replace(
        piece,
        base=None if piece.base is None else piece.base[start:end],
        branches=tuple(branch[start:end] for branch in piece.branches),
        start=start,
        sidecars={kind: tuple(tensor[start:end] for tensor in tensors) for kind, tensors in piece.sidecars.items()},
    )


def _merged(method: MergeMethod, piece: Piece) -> Array:
    merged = method(piece)
    return merged.value if isinstance(merged, Elected) else merged


def _bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()
