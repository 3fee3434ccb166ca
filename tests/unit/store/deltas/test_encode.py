import numpy as np
import pytest
from kinds import pairs

from git_theta_ext.interfaces import Fit
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.registry import find_encoding
from git_theta_ext.store.deltas.encode import DeltaHint, MemorySource, coded_blobs, dense_estimate, estimate
from git_theta_ext.store.packs.format import chunk_count

PAIRS = {"fine-tune BF16": "delta", "low rank F32": "low_rank", "scaled rows BF16": "scale", "ternary F32": "ternary"}


def sources(pair):
    return MemorySource(pair.new_spec, pair.new), MemorySource(pair.old_spec, pair.old)


def hint_for(pair, encoding):
    target, parent = sources(pair)
    fit = find_encoding(encoding).fit(target, parent)
    assert fit is not None
    return DeltaHint(encoding, tensor_digest(pair.old_spec, pair.old), pair.old_spec, fit)


def blobs_of(pair, hint):
    target, parent = sources(pair)
    return coded_blobs(tensor_digest(pair.new_spec, pair.new), hint, lambda: target, lambda: parent)


def payload(blob):
    pieces = [piece for number in range(chunk_count(blob.spec)) for piece in blob.encode(number)]
    return b"".join(bytes(memoryview(piece).cast("B")) for piece in pieces)


@pytest.mark.parametrize(("kind", "encoding"), PAIRS.items())
def test_what_a_small_tensor_takes_is_known_exactly(store, kind, encoding):
    pair = pairs()[kind]
    hint = hint_for(pair, encoding)
    store.put([(pair.old_spec, hint.parent, pair.old)])
    (name,) = store.write([blobs_of(pair, hint)], loose=False)
    assert abs(estimate(hint, *sources(pair)) - store.pack_path(name).stat().st_size) < 100


@pytest.mark.parametrize(("kind", "encoding"), PAIRS.items())
def test_factors_come_before_what_leans_on_them(kind, encoding):
    pair = pairs()[kind]
    hint = hint_for(pair, encoding)
    *factors, blob = blobs_of(pair, hint)
    assert blob.encoding == encoding
    assert blob.bases == (hint.parent, *(factor.digest for factor in factors))
    assert len(blob.bases) == len(find_encoding(encoding).needs)
    assert all(factor.encoding == "dense" and not factor.bases for factor in factors)


def test_large_tensors_are_estimated_by_samples():
    draw = np.random.default_rng(0)
    spec = TensorSpec.of("F32", (5 << 18,))
    old = draw.normal(0, 0.05, spec.elements).astype("<f4")
    new = old + draw.normal(0, 1e-5, spec.elements).astype("<f4")
    target, parent = MemorySource(spec, new), MemorySource(spec, old)
    hint = DeltaHint("delta", tensor_digest(spec, old.data), spec)
    blobs = coded_blobs(tensor_digest(spec, new.data), hint, lambda: target, lambda: parent)
    assert estimate(hint, target, parent) == pytest.approx(len(payload(blobs[0])), rel=0.05)
    assert estimate(hint, target, parent) < dense_estimate(target) < spec.nbytes


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_an_empty_tensor_takes_its_part_of_the_header(shape):
    spec = TensorSpec.of("F32", shape)
    empty = MemorySource(spec, b"")
    assert 0 < dense_estimate(empty) < 200
    assert 0 < estimate(DeltaHint("delta", tensor_digest(spec, b""), spec), empty, empty) < 250


def test_factors_count():
    pair = pairs()["low rank F32"]
    hint = hint_for(pair, "low_rank")
    factors = sum(spec.nbytes for spec, _ in hint.fit.tensors)
    bare = DeltaHint("delta", hint.parent, hint.parent_spec, Fit())
    assert 0 < factors < estimate(bare, *sources(pair))
    assert estimate(hint, *sources(pair)) > 0.8 * factors


def test_a_source_in_memory_gives_any_of_its_bytes():
    source = MemorySource(TensorSpec.of("I64", (2,)), bytes(range(16)))
    assert source.read() == bytes(range(16))
    assert source.read(3, 5) == b"\3\4"
    assert source.read(12, 99) == bytes(range(12, 16))
    assert source.read(99) == b""
