import struct

import numpy as np
import pytest

from git_theta_ext.coding.residual import decode_residual, encode_residual
from git_theta_ext.coding.stripe_plan import plan
from git_theta_ext.coding.stripes import LAST_KEY, Stripe, encode_stripes, group, pack, unpack
from git_theta_ext.errors import CorruptError
from git_theta_ext.model.tensor import TensorSpec

RECORD = struct.Struct("<BBBBI")
SPEC = TensorSpec.of("BF16", (100,))


def decode(payload, predicted=bytes(200), spec=SPEC):
    out = bytearray(len(predicted))
    decode_residual(spec, memoryview(payload), memoryview(predicted), memoryview(out))
    return bytes(out)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1001])
def test_packed_symbols_come_back(bits, count):
    symbols = np.random.default_rng(count).integers(0, 1 << bits, count, dtype=np.uint8)
    packed = pack(symbols, bits)
    assert packed.size == -(-count * bits // 8)
    assert unpack(packed, bits, count).tolist() == symbols.tolist()


def test_stripes_hold_every_place_once():
    rng = np.random.default_rng(0)
    keys = rng.integers(90, 130, 50_000).astype(np.uint8)
    stripes = plan(rng.integers(0, 200, keys.size).astype("<u2"), keys, 1 << 14)
    order, parts = group(keys, stripes)
    assert len(stripes) > 1
    assert stripes[-1].last == LAST_KEY
    assert [keys[order[part]].max() for part in parts[:-1]] == [stripe.last for stripe in stripes[:-1]]
    assert np.concatenate([order[part] for part in parts]).tolist() == np.argsort(keys, kind="stable").tolist()


@pytest.mark.parametrize("kind", ["<u1", "<u2", "<u4", "<u8"])
def test_stripes_coded_together_give_what_each_gives_alone(kind):
    rng = np.random.default_rng(2)
    lows = range(np.dtype(kind).itemsize)
    stripes = [
        Stripe(n, low, bits) for n, (low, bits) in enumerate((low, bits) for low in lows for bits in (1, 2, 4, 8))
    ]
    counts = [int(count) for count in rng.integers(0, 9000, len(stripes))]
    counts[1], counts[2] = 0, 1
    ends = np.cumsum(counts).tolist()
    parts = [slice(*pair) for pair in zip([0, *ends[:-1]], ends, strict=True)]
    missed = rng.geometric(0.02, ends[-1]).astype(kind)
    made, planes = encode_stripes(stripes, parts, missed.copy())
    alone = [
        encode_stripes([s], [slice(0, n)], missed[p].copy()) for s, p, n in zip(stripes, parts, counts, strict=True)
    ]
    assert made == [stripe for (stripe,), _ in alone]
    assert [bytes(plane) for plane in planes] == [bytes(plane) for _, some in alone for plane in some]


def test_rare_exponents_share_a_stripe():
    keys = np.repeat(np.arange(100, 120, dtype=np.uint8), 10)
    assert len(plan(np.arange(200, dtype="<u2"), keys, 1 << 14)) == 1


def test_every_exponent_at_once_comes_back():
    predicted = np.arange(1 << 16, dtype="<u2")
    data = np.random.default_rng(1).integers(0, 1 << 16, 1 << 16).astype("<u2")
    spec = TensorSpec.of("BF16", (1 << 16,))
    payload = b"".join(bytes(x) for x in encode_residual(spec, data.data.cast("B"), predicted.data.cast("B")))
    assert decode(payload, predicted.tobytes(), spec) == data.tobytes()


def test_differences_wrap_around():
    predicted, data = bytes(8), b"\x80" + b"\xff" * 7
    spec = TensorSpec.of("I8", (8,))
    payload = b"".join(bytes(x) for x in encode_residual(spec, memoryview(data), memoryview(predicted)))
    assert decode(payload, predicted, spec) == data


@pytest.mark.parametrize(
    ("stripes", "why"),
    [
        ([Stripe(254, 0, 8)], "not in order"),
        ([Stripe(LAST_KEY, 0, 8), Stripe(LAST_KEY, 0, 8)], "not in order"),
        ([Stripe(LAST_KEY, 0, 3)], "arrangement"),
        ([Stripe(LAST_KEY, 2, 8)], "arrangement"),
        ([Stripe(LAST_KEY, 1, 8, 2)], "arrangement"),
        ([Stripe(LAST_KEY, 0, 8, 1, 101)], "more elements"),
        ([Stripe(LAST_KEY, 0, 8, 0, 1)], "unexpected number"),
    ],
)
def test_stripes_that_make_no_sense_are_refused(stripes, why):
    records = b"".join(RECORD.pack(s.last, s.low, s.bits, s.wide, s.excesses) for s in stripes)
    planes = struct.pack("<BI", 0, 100) + bytes(100)
    with pytest.raises(CorruptError, match=why):
        decode(bytes([len(stripes)]) + records + planes)


def test_a_prediction_of_another_size_is_refused():
    with pytest.raises(CorruptError):
        decode_residual(SPEC, memoryview(b"\1"), memoryview(bytes(100)), memoryview(bytearray(200)))


def test_an_empty_payload_is_refused():
    with pytest.raises(CorruptError, match="truncated"):
        decode(b"")
