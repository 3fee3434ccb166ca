"""The compiled kernels give the same bits as numpy, and no buffer of a wrong size gets past them."""

from __future__ import annotations

import struct
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from git_theta_ext.coding import kernels
from git_theta_ext.coding.dense import decode_dense, encode_dense
from git_theta_ext.coding.residual import decode_residual, encode_residual
from git_theta_ext.errors import CorruptError
from git_theta_ext.model import dtypes
from git_theta_ext.model.tensor import TensorSpec

pytestmark = pytest.mark.portable

compiled = kernels.compiled
residuals = kernels.residuals
needs_compiled = pytest.mark.skipif(
    compiled is None or residuals is None, reason="the package was built without a C compiler"
)


@contextmanager
def without_vectors():
    residuals.use_vectors(False)
    try:
        yield
    finally:
        residuals.use_vectors(True)


@pytest.fixture(params=["compiled", "portable", "numpy"])
def way(request, monkeypatch):
    if request.param != "numpy" and (compiled is None or residuals is None):
        pytest.skip("the package was built without a C compiler")
    if request.param == "numpy":
        monkeypatch.setattr(kernels, "compiled", None)
        monkeypatch.setattr(kernels, "residuals", None)
    with without_vectors() if request.param == "portable" else nullcontext():
        yield


def in_both_ways(work):
    """Return what some work returns with the compiled module and without it. Its vectors make no difference."""
    results = [work()]
    with without_vectors():
        assert work() == results[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "compiled", None)
        patch.setattr(kernels, "residuals", None)
        results.append(work())
    return results


def drawn(spec, seed, moved):
    """Return the bytes of normal weights, and those of a fine-tune of them, for any element type."""
    rng = np.random.default_rng(seed)
    weights = (rng.standard_normal(-(-spec.nbytes // 4)) * 0.02).astype("<f4")
    tuned = weights + (moved * rng.standard_normal(weights.size)).astype("<f4")
    if spec.dtype.bits == 16:
        weights, tuned = (np.repeat(values.view("<u4") >> 16, 2).astype("<u2") for values in (weights, tuned))
    return tuple(values.tobytes()[: spec.nbytes] for values in (weights, tuned))


def joined(pieces):
    return b"".join(bytes(memoryview(piece).cast("B")) for piece in pieces)


def restored(spec, payload, parent):
    """Return the bytes of a tensor, given its residual and its parent, or the message of the error."""
    out = memoryview(bytearray(spec.nbytes))
    try:
        decode_residual(spec, memoryview(payload), parent, out)
    except CorruptError as error:
        return error.message
    return bytes(out)


@needs_compiled
@pytest.mark.parametrize("name", [name for name, kind in dtypes._TABLE.items() if kind.bits % 8 == 0])
@pytest.mark.parametrize("count", [1, 3, 63, 4097, 70_001])
def test_payloads_are_the_same_with_and_without_the_compiled_module(name, count):
    spec = TensorSpec.of(name, (count,))
    parent, data = (memoryview(values) for values in drawn(spec, count, 1e-4))
    for encode, decode in (
        (lambda: joined(encode_dense(spec, data)), lambda payload, out: decode_dense(spec, payload, out)),
        (
            lambda: joined(encode_residual(spec, data, parent)),
            lambda payload, out: decode_residual(spec, payload, parent, out),
        ),
    ):
        payload, other = in_both_ways(encode)
        assert payload == other

        def decoded(decode=decode, payload=payload):
            # The planes begin at an odd address, as they do in packs.
            out = memoryview(bytearray(spec.nbytes))
            decode(memoryview(b"x" + payload)[1:], out)
            return bytes(out)

        assert in_both_ways(decoded) == [data, data]


@needs_compiled
@given(
    name=st.sampled_from(["BF16", "F16", "F32"]),
    count=st.integers(4000, 20_000),
    exponents=st.lists(st.integers(0, 255), min_size=2, max_size=14, unique=True),
    falling=st.floats(0.05, 1),
    unlike=st.floats(0, 0.3),
    seed=st.integers(0, 99),
)
@example(name="BF16", count=8192, exponents=[255, 0, 1], falling=0.5, unlike=0, seed=0)
@example(name="BF16", count=16_001, exponents=[*range(120, 128)], falling=0.9, unlike=0.05, seed=1)
def test_residuals_are_the_same_however_many_elements_have_a_frequent_exponent(
    name, count, exponents, falling, unlike, seed
):
    rng = np.random.default_rng(seed)
    spec = TensorSpec.of(name, (count,))
    kind, mantissa = np.dtype(f"<u{spec.dtype.bits // 8}"), spec.dtype.mantissa
    shares = falling ** np.arange(len(exponents))
    drawn = rng.choice(exponents, count, p=shares / shares.sum())
    drawn = np.where(rng.random(count) < unlike, rng.integers(0, 256, count), drawn).astype(kind)
    guesses = drawn << kind.type(mantissa) | rng.integers(0, 1 << mantissa, count).astype(kind)
    data, parent = (memoryview(x.tobytes()) for x in (guesses + rng.geometric(0.2, count).astype(kind), guesses))
    payload, other = in_both_ways(lambda: joined(encode_residual(spec, data, parent)))
    assert payload == other

    def decoded():
        out = memoryview(bytearray(spec.nbytes))
        decode_residual(spec, memoryview(payload), parent, out)
        return bytes(out)

    assert in_both_ways(decoded) == [data, data]


@needs_compiled
@given(
    name=st.sampled_from(["BF16", "F16", "I16"]),
    count=st.integers(4096, 12_000),
    usual=st.sampled_from([0, 1, 3, 100]),
    large=st.sampled_from([0, 0.001, 0.05, 0.0625, 0.1]),
    unchanged=st.sampled_from([0, 0.5]),
    wrong=st.integers(0, 400),
    seed=st.integers(0, 99),
)
@example(name="BF16", count=4096, usual=3, large=0.0625, unchanged=0, wrong=1, seed=0)
@example(name="BF16", count=12_000, usual=100, large=0.05, unchanged=0, wrong=9, seed=1)
def test_residuals_are_the_same_however_many_differences_take_more_than_a_byte(
    name, count, usual, large, unchanged, wrong, seed
):
    rng = np.random.default_rng(seed)
    spec = TensorSpec.of(name, (count,))
    guesses = (rng.standard_normal(count) * 0.02).astype("<f4").view("<u4") >> 16
    moved = rng.integers(-usual, usual + 1, count)
    apart = rng.random(count) < large
    moved[apart] = rng.choice([-32768, -200, -129, -128, 127, 128, 129, 200, 32767], apart.sum())
    moved[: int(unchanged * count)] = 0
    data, parent = (memoryview(x.astype("<u2").tobytes()) for x in (guesses + moved, guesses))
    payload, other = in_both_ways(lambda: joined(encode_residual(spec, data, parent)))
    assert payload == other
    damaged = bytearray(payload)
    damaged[wrong % len(payload)] ^= 1

    assert in_both_ways(lambda: restored(spec, payload, parent)) == [data, data]
    first, second = in_both_ways(lambda: restored(spec, damaged, parent))
    assert first == second


@needs_compiled
@given(
    name=st.sampled_from(["BF16", "F32", "F64", "I8", "C64", "opaque72"]),
    count=st.integers(1, 700),
    changed=st.lists(st.integers(0, 699), max_size=6),
    at=st.integers(0, 100_000),
    byte=st.integers(0, 255),
)
@example(name="opaque72", count=1, changed=[0], at=0, byte=1)  # the one stripe is out of order and unknown
def test_residuals_of_few_changes_are_the_same_and_damage_is_noticed_alike(name, count, changed, at, byte):
    spec = TensorSpec.of(name, (count,))
    parent = memoryview(drawn(spec, count, 0)[0])
    data = bytearray(parent)
    for element in changed:
        data[element * spec.nbytes // count % spec.nbytes] ^= byte | 1
    payload, other = in_both_ways(lambda: joined(encode_residual(spec, memoryview(data), parent)))
    assert payload == other

    assert in_both_ways(lambda: restored(spec, payload, parent)) == [data, data]
    damaged = bytearray(payload)
    damaged[at % len(payload)] = byte
    for wrong in (damaged, payload[: at % len(payload)]):
        first, second = in_both_ways(lambda wrong=wrong: restored(spec, bytes(wrong), parent))
        assert first == second


@needs_compiled
@given(data=st.binary(max_size=600), width=st.sampled_from([2, 4]))
def test_any_values_are_split_and_joined_alike(data, width):
    values = data[: len(data) // width * width]

    def split():
        # They begin at an odd address, as in some files.
        return [bytes(plane) for plane in kernels.split_exponents(memoryview(b"x" + values)[1:], width)]

    planes, others = in_both_ways(split)
    assert planes == others

    def join():
        out = memoryview(bytearray(len(values)))
        kernels.join_exponents(planes[0], planes[1], planes[2] if width == 4 else b"", out, width)
        return bytes(out)

    assert in_both_ways(join) == [values] * 2


@needs_compiled
@given(data=st.binary(max_size=5000), width=st.sampled_from([1, 2, 3, 4, 8, 18, 210, 255]))
def test_any_bytes_are_split_and_joined_alike(data, width):
    values = data[: len(data) // width * width]

    def split():
        return [bytes(plane) for plane in kernels.split_bytes(memoryview(values), width)]

    planes, others = in_both_ways(split)
    assert planes == others == [values[at::width] for at in range(width)]

    def join():
        out = memoryview(bytearray(len(values)))
        kernels.join_bytes(planes, out)
        return bytes(out)

    assert in_both_ways(join) == [values] * 2


@needs_compiled
@given(data=st.binary(min_size=12, max_size=600), runs=st.integers(1, 4), size=st.integers(1, 3))
def test_any_bytes_are_weighed_alike(data, runs, size):
    weights = memoryview(bytearray(8 * (runs * size + 1))).cast("q")
    for count in range(runs * size + 1):
        weights[count] = 7**count
    one, other = in_both_ways(lambda: kernels.weigh_bytes(memoryview(data), runs, size, weights))
    step = len(data) // runs
    sample = b"".join(data[run * step : run * step + size] for run in range(runs))
    assert one == other == sum(7 ** sample.count(byte) for byte in range(256))


@needs_compiled
@given(
    data=st.lists(st.sampled_from(b"ab\0\xff"), max_size=400).map(bytes),
    width=st.sampled_from([4, 8]),
    step=st.integers(1, 9),
)
@example(data=b"abcd" * 8, width=4, step=4)
@example(data=b"", width=8, step=1)
@example(data=b"abcdefgh", width=8, step=3)
def test_repeated_words_are_counted_alike(data, width, step):
    one, other = in_both_ways(lambda: kernels.repeated_words(memoryview(data), width, step))
    words = [data[at : at + width] for at in range(0, len(data) - width + 1, step)]
    # So few different words hardly ever have the same hash; of two that have, one is the last.
    assert one == other <= len(words) - len(set(words))


@pytest.mark.usefixtures("way")
def test_words_that_repeat_are_told_from_those_that_do_not():
    once = b"".join(number.to_bytes(4, "big") for number in range(1, 1001))
    assert kernels.repeated_words(memoryview(once), 4, 4) == 0
    assert kernels.repeated_words(memoryview(once + once), 8, 4) > 400
    assert kernels.repeated_words(memoryview(bytes(100)), 4, 2) == 48


@needs_compiled
def test_words_that_do_not_fit_are_refused():
    for width, step, size in ((3, 1, 9), (4, 0, 9), (8, -1, 9), (4, 1, (1 << 16) + 3)):
        with pytest.raises(ValueError, match="sizes of the buffers"):
            compiled.repeated_words(bytes(size), width, step)
    assert compiled.repeated_words(bytes((1 << 16) + 2), 4, 1) == (1 << 16) - 2


@pytest.mark.usefixtures("way")
def test_memory_that_is_not_cleared_has_the_size_that_was_asked_for():
    for nbytes in (0, 1, 1 << 20):
        room = kernels.uncleared(nbytes)
        room[:] = bytes(nbytes)
        assert (type(room), len(room)) == (bytearray, nbytes)
    with pytest.raises(ValueError, match="negative"):
        kernels.uncleared(-1)


@needs_compiled
def test_samples_and_weights_of_wrong_sizes_are_refused():
    plane, weights = bytearray(16), bytearray(8 * 17)
    for runs, size in ((4, 5), (17, 1), (0, 1), (1, 0), (-1, 4), (1, -4)):
        with pytest.raises(ValueError, match="sizes of the buffers"):
            compiled.weigh(plane, runs, size, weights)
    with pytest.raises(ValueError, match="sizes of the buffers"):
        compiled.weigh(plane, 4, 4, weights[: 8 * 16])
    assert compiled.weigh(plane, 4, 4, weights) == 0


@needs_compiled
@given(
    data=st.binary(min_size=1, max_size=3000),
    name=st.sampled_from(["I8", "F16", "BF16", "F32", "F64", "I64", "C64"]),
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=40),
    repeat=st.sampled_from([1, 7, 40]),
)
def test_any_values_have_the_same_residual(data, name, changes, repeat):
    width = dtypes.dtype(name).bits // 8
    data = data * repeat
    data = data[: len(data) // width * width] or bytes(width)
    parent = bytearray(data)
    for at, value in changes:
        parent[at % len(parent)] = value
    spec = TensorSpec.of(name, (len(data) // width,))

    def encoded():
        return joined(encode_residual(spec, memoryview(data), memoryview(parent)))

    payload, other = in_both_ways(encoded)
    assert payload == other

    def decoded():
        out = memoryview(bytearray(len(data)))
        decode_residual(spec, memoryview(payload), memoryview(parent), out)
        return bytes(out)

    assert in_both_ways(decoded) == [data] * 2


@needs_compiled
@pytest.mark.parametrize("seed", range(40))
def test_differences_of_any_size_are_arranged_alike(seed):
    rng = np.random.default_rng(seed)
    name, lowest = [("F8_E4M3", 3), ("BF16", 7), ("F32", 23), ("F64", 52)][seed % 4]
    width = dtypes.dtype(name).bits // 8
    count = int(rng.choice([1, 7, 200, 40_000, 100_000]))
    keys = rng.integers(0, rng.integers(1, 17 if width == 1 else 257), count)
    values = rng.exponential(2.0 ** rng.uniform(-4, 8 * width - 2), count) * (1 + keys % 5)
    missed = np.minimum(values, 2.0 ** (8 * width - 2)).astype(f"<u{width}")
    parent = keys.astype(missed.dtype) << lowest
    spec, data = TensorSpec.of(name, (count,)), memoryview((parent + missed).tobytes())
    payload, other = in_both_ways(lambda: joined(encode_residual(spec, data, memoryview(parent.tobytes()))))
    assert payload == other

    def decoded():
        out = memoryview(bytearray(spec.nbytes))
        decode_residual(spec, memoryview(payload), memoryview(parent.tobytes()), out)
        return bytes(out)

    assert in_both_ways(decoded) == [data] * 2


def test_residuals_with_a_wrong_number_of_large_elements_are_refused(way):
    rng = np.random.default_rng(0)
    spec = TensorSpec.of("BF16", (500,))
    parent = rng.integers(0, 1 << 16, 500).astype("<u2")
    data = parent + np.where(rng.integers(0, 100, 500), rng.integers(0, 2, 500), 5000).astype("<u2")
    payload = bytearray(joined(encode_residual(spec, memoryview(data.tobytes()), memoryview(parent.tobytes()))))
    assert payload[0] == 1
    low, _, wide, excesses = struct.unpack_from("<BBBI", payload, 2)
    plane = 9 + 5 * (low + 1)  # the codec and the size of the first plane of excesses
    assert payload[plane] == 0
    struct.pack_into("<I", payload, 5, excesses - 1)
    for at in range(wide):
        struct.pack_into("<I", payload, plane + 1 + 5 * at, excesses - 1)
    end = len(payload) - wide * excesses
    kept = payload[:end] + b"".join(bytes(payload[end + at * excesses :][: excesses - 1]) for at in range(wide))
    with pytest.raises(CorruptError, match="unexpected number of large elements"):
        decode_residual(spec, memoryview(kept), memoryview(parent.tobytes()), memoryview(bytearray(1000)))


KIND = (2, 7, 255, 0)
HEAD = bytes([1, 255, 0, 8, 0, 0, 0, 0, 0])


def begun(head=HEAD, guesses=bytes(4), runs_map=b"", kind=KIND):
    return residuals.begin(guesses, kind, head, runs_map)


@needs_compiled
@pytest.mark.parametrize(
    "args",
    [
        (bytes(4), bytes(2), KIND, 8, bytes(128), 1.0, 1.0, 0.9),
        (bytes(5), bytes(5), KIND, 8, bytes(128), 1.0, 1.0, 0.9),
        (bytes(4), bytes(4), (3, 7, 255, 0), 8, bytes(128), 1.0, 1.0, 0.9),
        (bytes(4), bytes(4), (2, 16, 255, 0), 8, bytes(128), 1.0, 1.0, 0.9),
        (bytes(4), bytes(4), (2, -1, 255, 0), 8, bytes(128), 1.0, 1.0, 0.9),
        (bytes(4), bytes(4), (2, 7, 256, 0), 8, bytes(128), 1.0, 1.0, 0.9),
        (bytes(4), bytes(4), (2, 7, 255, 256), 8, bytes(128), 1.0, 1.0, 0.9),
        (bytes(4), bytes(4), KIND, 0, bytes(128), 1.0, 1.0, 0.9),
        (bytes(4), bytes(4), KIND, 8, bytes(127), 1.0, 1.0, 0.9),
    ],
)
def test_values_that_do_not_fit_are_not_arranged(args):
    with pytest.raises(ValueError, match="sizes of the buffers"):
        residuals.arrange(*args)


@needs_compiled
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"guesses": bytes(5)}, "sizes of the buffers"),
        ({"kind": (0, 7, 255, 0)}, "sizes of the buffers"),
        ({"runs_map": bytes(1)}, "sizes of the buffers"),
        ({"head": b"\x81" + HEAD[1:], "guesses": bytes(128)}, "sizes of the buffers"),
        ({"head": HEAD[:-1]}, "truncated"),
        ({"head": b""}, "truncated"),
        ({"head": b"\0"}, "truncated"),
        ({"head": b"\2" + HEAD[1:]}, "truncated"),
        ({"head": b"\2" + HEAD[1:] * 2}, "not in order"),
        ({"head": HEAD[:1] + b"\0" + HEAD[2:]}, "not in order"),
        ({"head": HEAD[:2] + b"\2" + HEAD[3:]}, "arrangement"),
        ({"head": HEAD[:3] + b"\3" + HEAD[4:]}, "arrangement"),
        ({"head": HEAD[:4] + b"\3" + HEAD[5:]}, "arrangement"),
        ({"head": HEAD[:5] + b"\3" + HEAD[6:]}, "more elements"),
    ],
)
def test_residuals_that_do_not_fit_are_not_begun(changes, why):
    with pytest.raises(ValueError, match=why):
        begun(**changes)


@needs_compiled
@pytest.mark.parametrize(
    ("guesses", "planes", "size"),
    [
        (bytes(4), [bytes(2)], 3),
        (bytes(6), [bytes(2)], 4),
        (bytes(6), [bytes(2)], 6),
        (bytes(4), [bytes(1)], 4),
        (bytes(4), [bytes(2), bytes(2)], 4),
        (bytes(4), [], 4),
    ],
)
def test_planes_and_values_of_wrong_sizes_are_refused(guesses, planes, size):
    out = bytearray(size)
    state, sizes = begun()
    assert sizes == [2]
    with pytest.raises(ValueError, match="sizes of the buffers"):
        residuals.restore(state, guesses, planes, out)
    out.append(0)  # it is not in use


@needs_compiled
def test_a_residual_is_restored_once():
    state, _ = begun()
    out = bytearray(4)
    residuals.restore(state, bytes(4), [b"\2\1"], out)
    assert out == b"\1\0\xff\xff"
    with pytest.raises(ValueError, match="sizes of the buffers"):
        residuals.restore(state, bytes(4), [b"\2\1"], out)


@needs_compiled
def test_what_are_no_planes_or_no_state_is_refused():
    state, _ = begun()
    for wrong in ((state, bytes(4), (b"\2\1",), bytearray(4)), (state, bytes(4), [None], bytearray(4))):
        with pytest.raises(TypeError):
            residuals.restore(*wrong)
    with pytest.raises(ValueError, match="PyCapsule"):
        residuals.restore(object(), bytes(4), [b"\2\1"], bytearray(4))


WRONG = [
    ("join", (4, 3, 0, 8)),
    ("join", (4, 4, 0, 7)),
    ("join", (4, 4, 6, 16)),
    ("join", (4, 4, 8, 8)),
]


@needs_compiled
@pytest.mark.parametrize(("name", "sizes"), WRONG)
def test_buffers_of_wrong_sizes_are_refused(name, sizes):
    buffers = [bytearray(size) for size in sizes]
    with pytest.raises(ValueError, match="sizes of the buffers"):
        getattr(compiled, name)(*buffers)
    for buffer in buffers:
        buffer.append(0)  # none of them is still in use


@needs_compiled
@pytest.mark.parametrize(
    ("name", "size", "width"),
    [
        ("split", 7, 2),
        ("split", 10, 4),
        ("split", 8, 8),
        ("split_bytes", 7, 2),
        ("split_bytes", 8, 0),
        ("split_bytes", 8, -1),
        ("split_bytes", 256, 256),
    ],
)
def test_widths_that_do_not_fit_are_refused(name, size, width):
    data = bytearray(size)
    with pytest.raises(ValueError, match="sizes of the buffers"):
        getattr(compiled, name)(data, width)
    data.append(0)  # it is not in use


@needs_compiled
@pytest.mark.parametrize("sizes", [(8, 4, 3), (9, 4, 4), (8,), (0,), (256, *[1] * 256), (8, 3, 5)])
def test_planes_of_wrong_sizes_are_refused(sizes):
    out, *planes = (bytearray(size) for size in sizes)
    with pytest.raises(ValueError, match="sizes of the buffers"):
        compiled.join_bytes(tuple(planes), out)
    for buffer in (out, *planes):
        buffer.append(0)  # none of them is still in use


@needs_compiled
def test_what_is_no_buffer_or_cannot_be_written_is_refused():
    held = bytearray(8)
    for wrong in (4, None):
        for work in (
            lambda wrong=wrong: compiled.split(wrong, 2),
            lambda wrong=wrong: compiled.split_bytes(wrong, 2),
            lambda wrong=wrong: compiled.join_bytes((held, wrong), bytearray(16)),
            lambda wrong=wrong: compiled.join_bytes((held,), wrong),
        ):
            with pytest.raises(TypeError):
                work()
    for work in (lambda: compiled.join_bytes((held,), bytes(8)), lambda: compiled.join(held, held, b"", bytes(16))):
        with pytest.raises((TypeError, BufferError)):
            work()
    held.append(0)


def test_a_module_of_another_version_is_not_used(monkeypatch):
    monkeypatch.setattr(kernels, "import_module", lambda _: SimpleNamespace(VERSION=0))
    assert kernels.load_compiled("_kernels") is None
