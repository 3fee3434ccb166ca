from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from updates import REALS, ROWS, Memory, chunk_of, golden, round_trip, stored_size, tensor, values_of

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import Base, Chunk, Fit, to_float64
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.testing.encodings import EncodingTests
from git_theta_plugins.encodings import _intervals, _low_rank_fit, _narrow_intervals, _range_finder
from git_theta_plugins.encodings.delta import ENCODING as DELTA
from git_theta_plugins.encodings.low_rank import ENCODING


def factors(rows, columns, rank, size=0.03, kind="F32"):
    rng = np.random.default_rng(3)
    left, right = (tensor(kind, rng.standard_normal(shape) * size) for shape in ((rows, rank), (rank, columns)))
    return (left.spec, left.data), (right.spec, right.data)


def merged(name, shape, rank, size=1e-3):
    """Return a tensor, and its parent, to which an update was added as a trainer does: in float32."""
    rng = np.random.default_rng(4)
    columns = int(np.prod(shape[1:]))
    update = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, columns)) * (size / rank**0.5)
    parent = values_of(name, shape)
    total = parent.astype(np.float32) + update.astype(np.float32).reshape(shape)
    return tensor(name, total), tensor(name, parent)


@pytest.mark.parametrize(
    ("name", "shape", "rank", "size", "share"),
    [
        ("BF16", (256, 256), 4, 1e-3, 0.05),
        ("F32", (256, 256), 4, 1e-3, 0.06),
        ("F16", (256, 200), 2, 1e-3, 0.04),
        ("F8_E4M3", (256, 256), 2, 1e-2, 0.08),
        ("BF16", (64, 32, 3, 3), 2, 1e-3, 0.06),
    ],
)
def test_a_merged_update_is_found_and_takes_little_more_than_its_factors(name, shape, rank, size, share):
    target, parent = merged(name, shape, rank, size)
    fit = ENCODING.fit(target, parent)
    assert fit is not None
    assert fit.tensors[0][0].shape[1] == rank
    assert stored_size(ENCODING, fit, target, parent) < share


def test_an_update_below_the_rounding_of_most_elements_is_found():
    target, parent = merged("BF16", (512, 512), 4, size=5e-5)
    fit = ENCODING.fit(target, parent)
    assert fit is not None
    assert stored_size(ENCODING, fit, target, parent) < 0.5 * stored_size(DELTA, Fit(), target, parent)


def test_nearly_all_that_rounding_hid_is_recovered():
    target, parent = merged("BF16", (384, 384), 8)
    update = _low_rank_fit._update(target, parent, (384, 384))
    left, right = _low_rank_fit._factor(update, 16)
    inside = np.abs(left @ right - update.centre) <= update.half
    assert left.shape[1] == 8
    assert inside.mean() > 0.97


def test_factors_are_found_on_the_processor_if_a_device_cannot_be_used(monkeypatch):
    target, parent = merged("BF16", (96, 96), 4)
    update = _low_rank_fit._update(target, parent, (96, 96))
    expected = _low_rank_fit._factor(update, 8)
    asked = []

    def refuse(*_):
        asked.append(1)
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")

    monkeypatch.setattr(_low_rank_fit, "_PAYS_ON_DEVICE", 1)
    monkeypatch.setattr(_low_rank_fit, "_has_device", lambda: True)
    monkeypatch.setattr(_low_rank_fit, "_factor_on_device", refuse)
    found = _low_rank_fit._factor(update, 8)
    assert asked
    assert all(np.array_equal(one, other) for one, other in zip(expected, found, strict=True))


@pytest.mark.parametrize("name", ["BF16", "F32"])
def test_an_update_of_full_rank_is_rejected(name):
    parent = values_of(name, (256, 256))
    noise = np.random.default_rng(9).standard_normal((256, 256)) * 1e-3
    assert ENCODING.fit(tensor(name, parent + noise), tensor(name, parent)) is None


@pytest.mark.parametrize("name", ["BF16", "F32"])
def test_directions_are_not_searched_for_in_independent_rows(monkeypatch, name):
    parent = values_of(name, (256, 300))
    noise = np.random.default_rng(9).standard_normal((256, 300)) * 1e-3
    monkeypatch.setattr(_low_rank_fit, "_directions", None)
    assert ENCODING.fit(tensor(name, parent + noise), tensor(name, parent)) is None


@pytest.mark.parametrize(("rank", "size"), [(1, 1e-3), (1, 1e-5), (8, 1e-3), (8, 1e-5), (32, 1e-3), (128, 1e-3)])
def test_rows_of_a_low_rank_are_not_taken_for_independent(rank, size):
    target, parent = merged("BF16", (512, 512), rank, size)
    assert _low_rank_fit._rows_are_alike(_low_rank_fit._update(target, parent, (512, 512)).centre[:256])


@pytest.mark.parametrize(
    ("name", "shape"), [("BF16", (4096,)), ("BF16", (8, 4096)), ("F64", (64, 64)), ("I64", (64, 64)), ("C64", (64, 64))]
)
def test_what_no_matrix_of_floats_is_is_rejected(name, shape):
    spec = TensorSpec.of(name, shape)
    assert ENCODING.fit(Memory(spec, bytes(spec.nbytes)), Memory(spec, bytes([1]) * spec.nbytes)) is None


def test_an_equal_parent_and_one_of_another_shape_are_rejected():
    target, _ = merged("BF16", (64, 64), 2)
    assert ENCODING.fit(target, target) is None
    assert ENCODING.fit(target, tensor("BF16", values_of("BF16", (65, 64)))) is None


def test_values_that_are_not_finite_do_not_hide_an_update():
    target, parent = merged("F32", (256, 256), 4)
    data = np.frombuffer(target.data, "<f4").copy()
    data[[5, 70, 30_000]] = [np.nan, np.inf, -3e38]
    target = replace(target, data=data.tobytes())
    fit = ENCODING.fit(target, parent)
    assert fit is not None
    assert stored_size(ENCODING, fit, target, parent) < 0.07


@pytest.mark.parametrize("name", ["BF16", "F16", "F32", "F64", "F8_E4M3", "F8_E5M2"])
@pytest.mark.parametrize("kind", ["F32", "BF16", "F16", "F64"])
@pytest.mark.parametrize("swap", [False, True])
def test_prediction_adds_products_in_order_and_rounds_once(name, kind, swap):
    height, width, rank = (37, 23, 3)
    (left_spec, left), (right_spec, right) = factors(*((width, height) if swap else (height, width)), rank, 0.1, kind)
    parent = tensor(name, values_of(name, (height, width)))
    fit = Fit({"scale": 2.0, "swap": swap}, ((left_spec, left), (right_spec, right)))
    out = memoryview(bytearray(parent.spec.nbytes))
    ENCODING.predict(chunk_of(parent, fit), out)
    one, other = values_of_bytes(left, left_spec), values_of_bytes(right, right_spec)
    total = sum(np.multiply.outer(one[:, k], other[k]) for k in range(rank)) * 2.0
    wanted = tensor(name, values_of(name, (height, width)) + (total.T if swap else total))
    assert out == wanted.data


class TestLowRank(EncodingTests):
    encoding = ENCODING
    specs = REALS
    params = MappingProxyType({"scale": 2.0, "swap": False})
    grows = False

    def spec(self, name, elements):
        return TensorSpec.of(name, (ROWS, elements // ROWS))

    def whole_bases(self, spec):
        return tuple(Base(of, memoryview(data)) for of, data in factors(ROWS, spec.elements // ROWS, 3))


def values_of_bytes(data, spec):
    from git_theta_ext.model.floats import to_float

    return to_float(data, spec.dtype).astype(np.float64).reshape(spec.shape)


@pytest.mark.parametrize("piece", [2, 26, 46, 1000])
def test_a_chunk_may_begin_and_end_anywhere_in_a_row(piece):
    parent = tensor("BF16", values_of("BF16", (50, 23)))
    fit = Fit({"scale": 1.0, "swap": False}, factors(50, 23, 2))
    out = bytearray(parent.spec.nbytes)
    ENCODING.predict(chunk_of(parent, fit), memoryview(out))
    for start in range(0, len(out), piece):
        end = min(start + piece, len(out))
        part = memoryview(bytearray(end - start))
        ENCODING.predict(chunk_of(parent, fit, start, end), part)
        assert part == out[start:end]


def test_rows_longer_than_a_block_are_predicted_in_pieces():
    parent = tensor("BF16", values_of("BF16", (3, 70_001)))
    target = tensor("BF16", values_of("BF16", (3, 70_001), seed=1))
    round_trip(ENCODING, Fit({"scale": 1.0}, factors(3, 70_001, 1)), target, parent, piece=100_002)


@given(st.binary(min_size=96, max_size=96), st.binary(min_size=96, max_size=96), st.binary(min_size=56, max_size=56))
def test_any_bytes_come_back_from_any_parent_and_any_factors(data, base, thin):
    for name, shape in (("BF16", (6, 8)), ("F32", (6, 4)), ("F16", (6, 8)), ("F64", (6, 2)), ("F8_E5M2", (6, 16))):
        spec = TensorSpec.of(name, shape)
        left, right = (TensorSpec.of("F32", each) for each in ((6, 1), (1, shape[1])))
        fit = Fit({"scale": 1.5}, ((left, thin[: left.nbytes]), (right, (thin * 2)[: right.nbytes])))
        round_trip(ENCODING, fit, Memory(spec, data), Memory(spec, base), piece=spec.nbytes)


@pytest.mark.parametrize(
    "params",
    [{}, {"scale": "1"}, {"scale": float("nan")}, {"scale": float("inf")}, {"scale": True}, {"scale": 1.0, "swap": 1}],
)
def test_parameters_that_make_no_sense_are_refused(params):
    parent = tensor("BF16", values_of("BF16", (6, 8)))
    with pytest.raises(CorruptError):
        ENCODING.predict(chunk_of(parent, Fit(params, factors(6, 8, 2))), memoryview(bytearray(96)))


@pytest.mark.parametrize("shape", [(6, 9, 2), (7, 8, 2), (6, 8, 0)])
def test_factors_that_do_not_fit_are_refused(shape):
    parent = tensor("BF16", values_of("BF16", (6, 8)))
    with pytest.raises(CorruptError):
        ENCODING.predict(chunk_of(parent, Fit({"scale": 1.0}, factors(*shape))), memoryview(bytearray(96)))


def test_bases_that_are_missing_cut_short_or_of_other_types_are_refused():
    parent = tensor("BF16", values_of("BF16", (6, 8)))
    left, right = factors(6, 8, 2)
    good = chunk_of(parent, Fit({"scale": 1.0}, (left, right)))
    one, other = good.bases[1:]
    for bases in (
        (),
        good.bases[:2],
        (replace(good.bases[0], data=good.bases[0].data[:-2]), one, other),
        (good.bases[0], replace(one, data=one.data[:-4]), other),
        (good.bases[0], replace(one, spec=TensorSpec.of("I32", (6, 2))), other),
        (good.bases[0], replace(one, spec=TensorSpec.of("F32", (12,))), other),
        (replace(good.bases[0], spec=TensorSpec.of("F16", (6, 8))), one, other),
    ):
        with pytest.raises(CorruptError):
            ENCODING.predict(replace(good, bases=bases), memoryview(bytearray(96)))
    with pytest.raises(CorruptError):
        ENCODING.predict(replace(good, offset=2), memoryview(bytearray(96)))


def test_a_tensor_is_read_in_pieces():
    class Counted(Memory):
        largest = 0

        def read(self, start=0, end=None):
            found = super().read(start, end)
            Counted.largest = max(Counted.largest, found.nbytes)
            return found

    target, parent = (Counted(each.spec, each.data) for each in merged("F32", (1024, 1024), 4))
    fit = ENCODING.fit(target, parent)
    assert fit is not None
    assert Counted.largest <= target.spec.nbytes // 2


def test_large_tensors_wait_for_each_other():
    room, order = _low_rank_fit._Room(10), []

    def take(elements):
        with room.taken(elements):
            order.append(elements)

    with ThreadPoolExecutor(2) as executor:
        with room.taken(6):
            waiting = executor.submit(take, 99)
            executor.submit(take, 4).result(10)
            assert order == [4]
        waiting.result(10)
    assert order == [4, 99]


def test_torch_finds_the_same_update():
    import torch

    target, parent = merged("BF16", (128, 96), 3)
    known = _low_rank_fit._update(target, parent, (128, 96))
    update = _intervals.Intervals(torch.from_numpy(known.centre), torch.from_numpy(known.half))
    start = torch.from_numpy(np.random.default_rng(0).standard_normal((96, 12)).astype(np.float32))
    left, right = _range_finder.refine(torch, update, *_range_finder.find_range(torch, update, start))
    assert left.shape == (128, 3)
    assert (torch.abs(left @ right - update.centre) <= update.half).double().mean() > 0.95


@pytest.mark.parametrize("name", ["BF16", "F32", "F8_E4M3", "swapped"])
def test_payloads_of_the_first_version_still_decode(name):
    found, data = golden(ENCODING, name)
    assert found == data


def test_factors_of_far_more_ranks_than_the_matrix_has_are_refused():
    spec = TensorSpec.of("F32", (1, 1))
    left, right = (TensorSpec.of("F32", shape) for shape in ((1, 5), (5, 1)))
    bases = (Base(spec, memoryview(bytes(4))), *(Base(each, memoryview(bytes(20))) for each in (left, right)))
    with pytest.raises(CorruptError, match="rank 5"):
        ENCODING.predict(Chunk(spec, 0, bases, {"scale": 1.0, "swap": False}), memoryview(bytearray(4)))


def test_the_narrowest_intervals_of_each_row_are_chosen():
    half = np.random.default_rng(3).permutation(40 * 300).astype("f4").reshape(40, 300)
    known = _narrow_intervals.of(_intervals.Intervals(-half, half), 128)
    assert (np.sort(known.half, axis=1) == np.sort(half, axis=1)[:, :128]).all()
    assert (np.take_along_axis(half, known.columns, axis=1) == known.half).all()
    assert (known.centre == -known.half).all()


def test_steps_by_the_narrowest_intervals_lead_into_most_of_all_intervals():
    target, parent = merged("BF16", (300, 280), 4)
    update = _low_rank_fit._update(target, parent, (300, 280))
    start = np.random.default_rng(0).standard_normal((280, 12)).astype(np.float32)
    left, right, _ = _range_finder.find_range(np, update, start)
    before = (np.abs(left @ right - update.centre) <= update.half).mean()
    across, down = (_narrow_intervals.of(side, 128) for side in (update, update.T))
    for _ in range(12):
        left, _ = _narrow_intervals.improve(across, left, right, (0.6, float(update.half.min())))
        right = _narrow_intervals.improve(down, right.T, left.T, (0.6, float(update.half.min())))[0].T
    assert before < 0.95 < (np.abs(left @ right - update.centre) <= update.half).mean()


@pytest.mark.parametrize("blurred", [True, False])
def test_the_search_takes_the_last_rounds_unless_the_parent_was_rounded_as_well(blurred, monkeypatch):
    rng = np.random.default_rng(5)
    whole = (rng.standard_normal((600, 600)) * 0.02).astype(np.float32)
    update = rng.standard_normal((600, 4)) @ rng.standard_normal((4, 600)) * 1e-4
    parent = tensor("BF16", whole)
    exact = to_float64(parent.data, parent.spec.dtype).reshape(whole.shape)
    target = tensor("BF16", (whole if blurred else exact) + update)
    last = []
    improve = _range_finder.improve
    monkeypatch.setattr(_range_finder, "improve", lambda *args: last.append(0) or improve(*args))
    assert ENCODING.fit(target, parent) is not None
    assert bool(last) != blurred
