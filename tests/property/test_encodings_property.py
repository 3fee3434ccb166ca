from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import Base, Chunk
from git_theta_ext.model.tensor import TensorSpec
from git_theta_plugins.encodings.delta import ENCODING as DELTA
from git_theta_plugins.encodings.dense import ENCODING as DENSE

KINDS = st.sampled_from(
    ["F32", "BF16", "F16", "F64", "F8_E4M3", "F8_E5M2", "F4", "I8", "I64", "BOOL", "C64", "C128", "opaque24:x"]
)


@st.composite
def versions(draw):
    """Return a spec, its bytes, and a parent's: the same with some bytes changed, and truncated or not."""
    kind = draw(KINDS)
    unit = draw(st.binary(min_size=1, max_size=40))
    spec = TensorSpec.of(kind, (draw(st.integers(0, 300)) * 8,))
    data = (unit * (spec.nbytes // len(unit) + 1))[: spec.nbytes]
    parent = bytearray(data)
    for place, byte in draw(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=30)):
        if parent:
            parent[place % len(parent)] = byte
    kept = draw(st.sampled_from([spec.elements, 0, spec.elements // 16 * 8])) * spec.dtype.bits // 8
    return spec, data, bytes(parent[:kept])


def check(encoding, chunk, data):
    payload = b"".join(bytes(memoryview(piece).cast("B")) for piece in encoding.encode(chunk, memoryview(data)))
    out = bytearray(len(data))
    encoding.decode(chunk, memoryview(payload), memoryview(out))
    assert out == data


@given(versions())
def test_dense_gives_back_any_bytes(version):
    spec, data, _ = version
    check(DENSE, Chunk(spec), data)


@given(versions())
def test_delta_gives_back_any_bytes_whatever_the_parent(version):
    spec, data, parent = version
    check(DELTA, Chunk(spec, 0, (Base(spec, memoryview(parent)),)), data)


@given(versions(), st.binary(max_size=400), st.integers(0, 255))
def test_no_payload_makes_delta_fail_otherwise_than_as_corrupt(version, noise, first):
    spec, data, parent = version
    chunk = Chunk(spec, 0, (Base(spec, memoryview(parent)),))
    for payload in (noise, bytes([first]) + noise):
        with suppress(CorruptError):
            DELTA.decode(chunk, memoryview(payload), memoryview(bytearray(len(data))))
