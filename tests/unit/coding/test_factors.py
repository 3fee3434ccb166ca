"""The compiled search for factors gives what numpy gives, and its predictions have the same bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.coding import factors
from git_theta_ext.interfaces import Base, Chunk, TensorSpec
from git_theta_plugins.encodings import _intervals, _narrow_intervals
from git_theta_plugins.encodings.low_rank import ENCODING

compiled = factors.compiled
pytestmark = pytest.mark.skipif(compiled is None, reason="the package was built without a C compiler")
WIDTHS = {"BF16": 2, "F32": 4}


def in_both_ways(work):
    """Return what some work returns with the compiled module and without it."""
    with pytest.MonkeyPatch.context() as patch:
        one = work()
        patch.setattr(factors, "compiled", None)
        return one, work()


def predicted(name, shape, part, chunk_factors, parent, scale=1.0):
    spec = TensorSpec.of(name, shape)
    start, end = (at * WIDTHS[name] for at in part)
    bases = Base(spec, memoryview(parent)[start:end]), *chunk_factors
    out = bytearray(end - start)
    ENCODING.predict(Chunk(spec, start, bases, {"scale": scale, "swap": False}), memoryview(out))
    return bytes(out)


def stored(values):
    values = np.ascontiguousarray(values, np.float32)
    return Base(TensorSpec.of("F32", values.shape), memoryview(values).cast("B"))


@given(
    name=st.sampled_from(sorted(WIDTHS)),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 600)),
    rank=st.integers(1, 9),
    seed=st.integers(0, 2**16),
    data=st.data(),
)
def test_predictions_have_the_same_bits(name, shape, rank, seed, data):
    rng, rank = np.random.default_rng(seed), min(rank, 4 * max(shape))
    # Any bits at all: most are finite, and few are of the size of the product.
    parent = rng.bytes(shape[0] * shape[1] * WIDTHS[name])
    part = sorted(data.draw(st.tuples(*[st.integers(0, shape[0] * shape[1])] * 2)))
    size = 10.0 ** rng.integers(-30, 10)
    both = [stored(rng.standard_normal(each) * size) for each in ((shape[0], rank), (rank, shape[1]))]
    scale = float(rng.standard_normal())
    one, other = in_both_ways(lambda: predicted(name, shape, part, both, parent, scale))
    assert one == other


def test_a_value_between_two_of_bf16_is_rounded_once():
    # The exact sum is a little above the middle of 1 and its successor; rounded to float32 first it is the middle.
    parent = np.full(8, 0x3F80, "<u2").tobytes()
    for tiny, expected in ((2.0**-40, 0x3F81), (-(2.0**-40), 0x3F80), (0.0, 0x3F80)):
        both = stored([[1.0, 1.0]]), stored([[2.0**-8] * 8, [tiny] * 8])
        found = predicted("BF16", (1, 8), (0, 8), both, parent)
        assert np.frombuffer(found, "<u2").tolist() == [expected] * 8


@pytest.mark.parametrize("name", sorted(WIDTHS))
def test_what_is_not_finite_is_left_to_numpy(name):
    width = WIDTHS[name]
    quiet = {"BF16": b"\xff\x7f", "F32": b"\xff\xff\xff\x7f"}[name]
    out = memoryview(bytearray(2 * width))
    left = right = np.ones((1, 1))
    for wrong in (quiet, quiet[:-2] + b"\x80\x7f"):
        given = {"parent": memoryview(wrong), "dtype": TensorSpec.of(name, ()).dtype, "start": 0, "out": out[:width]}
        assert not factors.add_product(left, right, scale=1.0, **given)
    given["parent"] = memoryview(bytes(width))
    assert factors.add_product(left, right, scale=1.0, **given)
    assert not factors.add_product(left * 1e300, right * 1e300, scale=1.0, **given)


@given(columns=st.integers(1, 80), seed=st.integers(0, 2**16), data=st.data())
def test_the_first_of_the_narrowest_intervals_are_chosen(columns, seed, data):
    count = data.draw(st.integers(1, columns))
    rng = np.random.default_rng(seed)
    half = (2.0 ** rng.integers(-40, 90, (5, columns))).astype(np.float32) * rng.choice([1, 1.25, 1.26], (5, columns))
    half = half.astype(np.float32)
    chosen, centres, halves = factors.narrowest(half, -half, count)
    expected = np.sort(np.argsort(half, axis=1, kind="stable")[:, :count], axis=1)
    assert (chosen == expected).all()
    assert (halves == np.take_along_axis(half, expected, axis=1)).all()
    assert (centres == -halves).all()


@pytest.mark.parametrize("rank", [1, 3, 4, 5, 8, 11, 16])
@pytest.mark.parametrize("aim", [0.0, 0.6])
def test_a_step_leads_where_that_of_numpy_leads(rank, aim):
    rng = np.random.default_rng(rank)
    left, right = rng.standard_normal((30, rank)), rng.standard_normal((rank, 70))
    half = (2.0 ** -rng.integers(3, 9, (30, 70))).astype(np.float32)
    centre = (left @ right + half * rng.uniform(-1, 1, half.shape)).astype(np.float32)
    known = _narrow_intervals.of(_intervals.Intervals(centre, half), 45)
    start = left + 0.01 * rng.standard_normal(left.shape)
    before = start.copy()
    one, other = in_both_ways(lambda: _narrow_intervals.improve(known, start, right, (aim, float(half.min()))))
    assert one[1] == other[1] > 0
    np.testing.assert_allclose(one[0], other[0], rtol=1e-9, atol=1e-12)
    assert (start == before).all()


def test_a_row_without_information_stays():
    known = np.zeros((1, 3), np.int32), np.zeros((1, 3), np.float32), np.full((1, 3), 1e30, np.float32)
    given = dict(zip(("columns", "centre", "half"), known, strict=True), aim=0.6, unit=1e-6, inside=0.003)
    left, missing = factors.improve_rows(np.ones((1, 2)), np.zeros((2, 4)), **given)
    assert missing == 0
    assert left.tolist() == [[1.0, 1.0]]


def test_high_ranks_and_many_intervals_are_left_to_numpy():
    few, many = (np.zeros((1, count), np.int32) for count in (1, 4097))
    for rank, columns in ((17, few), (1, many)):
        given = {"columns": columns, "centre": None, "half": None, "aim": 0.6, "unit": 1.0, "inside": 0.1}
        assert factors.improve_rows(np.ones((1, rank)), np.ones((rank, 1)), **given) is None


WRONG = [
    ("predict", (bytes(8), bytes(8), 1, 1.0, 0, 2, bytes(2), bytearray(4))),
    ("predict", (bytes(8), bytes(8), 1, 1.0, 0, 3, bytes(3), bytearray(3))),
    ("predict", (bytes(8), bytes(8), 1, 1.0, 0, 2, bytes(4), bytearray(4))),
    ("predict", (bytes(8), bytes(8), 1, 1.0, 1, 2, bytes(2), bytearray(2))),
    ("predict", (bytes(8), bytes(8), 1, 1.0, -1, 2, bytes(2), bytearray(2))),
    ("predict", (bytes(8), bytes(8), 0, 1.0, 0, 2, bytes(2), bytearray(2))),
    ("predict", (bytes(8), bytes(8), -1, 1.0, 0, 2, bytes(2), bytearray(2))),
    ("predict", (bytes(8), bytes(8), 1 << 62, 1.0, 0, 2, bytes(2), bytearray(2))),
    ("predict", (bytes(12), bytes(8), 1, 1.0, 0, 2, bytes(2), bytearray(2))),
    ("predict", (bytes(8), b"", 1, 1.0, 0, 2, bytes(2), bytearray(2))),
    ("narrowest", (bytes(8), bytes(8), 0, bytearray(4), bytearray(4), bytearray(4))),
    ("narrowest", (bytes(8), bytes(4), 1, bytearray(4), bytearray(4), bytearray(4))),
    ("narrowest", (bytes(8), bytes(8), 1, bytearray(4), bytearray(8), bytearray(4))),
    ("narrowest", (bytes(8), bytes(8), 1, bytearray(4), bytearray(4), bytearray(8))),
    ("narrowest", (bytes(8), bytes(8), 1, bytearray(12), bytearray(12), bytearray(12))),
    ("narrowest", (bytes(8), bytes(8), 1, bytearray(0), bytearray(0), bytearray(0))),
    ("improve", (bytes(4), bytes(4), bytes(4), bytes(32), 0, bytearray(8), 0.6, 1.0, 0.1)),
    ("improve", (bytes(4), bytes(4), bytes(4), bytes(32), 17, bytearray(8), 0.6, 1.0, 0.1)),
    ("improve", (bytes(4), bytes(8), bytes(4), bytes(32), 1, bytearray(8), 0.6, 1.0, 0.1)),
    ("improve", (bytes(4), bytes(4), bytes(8), bytes(32), 1, bytearray(8), 0.6, 1.0, 0.1)),
    ("improve", (bytes(4), bytes(4), bytes(4), bytes(24), 1, bytearray(8), 0.6, 1.0, 0.1)),
    ("improve", (bytes(4), bytes(4), bytes(4), bytes(32), 1, bytearray(9), 0.6, 1.0, 0.1)),
    ("improve", (bytes(4), bytes(4), bytes(4), bytes(32), 1, bytearray(0), 0.6, 1.0, 0.1)),
    ("improve", (bytes(4), bytes(4), b"\1\0\0\0", bytes(32), 1, bytearray(8), 0.6, 1.0, 0.1)),
    ("improve", (bytes(4), bytes(4), b"\xff" * 4, bytes(32), 1, bytearray(8), 0.6, 1.0, 0.1)),
]


@pytest.mark.parametrize(("name", "args"), WRONG)
def test_buffers_of_wrong_sizes_and_columns_out_of_range_are_refused(name, args):
    with pytest.raises(ValueError, match=r"do not fit|too large|out of range"):
        getattr(compiled, name)(*args)
    for held in (arg for arg in args if isinstance(arg, bytearray)):
        held.append(0)  # none of them is still in use
