import itertools
import os

import numpy as np
import pytest
from helpers import packs_of
from kinds import pairs

from git_theta_ext.errors import CorruptError, PluginError
from git_theta_ext.model.tensor import TensorSpec, tensor_digest
from git_theta_ext.registry import find_encoding
from git_theta_ext.store.deltas import decode
from git_theta_ext.store.deltas.chains import depths
from git_theta_ext.store.deltas.decode import StoredSource
from git_theta_ext.store.deltas.decoded_chunks import DecodedChunks
from git_theta_ext.store.deltas.encode import DeltaHint, MemorySource
from git_theta_ext.store.packs.format import Entry
from git_theta_ext.store.packs.reader import PackReader, StoredBlob, read_pack_header
from git_theta_ext.store.store import Store

CHUNK = 1 << 19


@pytest.fixture
def far():
    """Return a function that makes a tensor of some elements that starts as one of more elements does."""

    def tensor(elements, seed=0, step=0.0):
        draw = np.random.default_rng(seed)
        values = draw.normal(0, 0.05, 3 * CHUNK).astype("<f4")[:elements]
        values = values + np.random.default_rng(seed + 1).normal(0, step, elements).astype("<f4")
        spec = TensorSpec.of("F32", (elements,))
        return spec, tensor_digest(spec, values.data), values.tobytes()

    return tensor


@pytest.mark.parametrize("parent", [0, 1, CHUNK - 5, CHUNK, CHUNK + 7, 2 * CHUNK + 9, 3 * CHUNK])
@pytest.mark.parametrize("child", [CHUNK + 7, 2 * CHUNK])
def test_a_parent_may_have_fewer_or_more_elements(store, far, parent, child):
    old, new = far(parent), far(child, step=1e-5)
    store.put([old])
    store.put([new], hints={new[1]: DeltaHint("delta", old[1], old[0])})
    assert bool(store.locations([new[1]])[new[1]][0].bases) == (parent >= CHUNK - 5)
    assert store.read(new[1], new[0]) == new[2]


def test_a_chain_through_tensors_of_many_sizes_is_decoded(store, far):
    sizes = [CHUNK + 3, CHUNK - 3, 2 * CHUNK, CHUNK, CHUNK + 70_000]
    items = [far(size, step=1e-6 * number) for number, size in enumerate(sizes)]
    store.put(items[:1])
    for old, new in itertools.pairwise(items):
        store.put([new], hints={new[1]: DeltaHint("delta", old[1], old[0])})
    assert [len(store.locations([d])[d][0].bases) for _, d, _ in items] == [0, 1, 1, 1, 1]
    assert all(store.read(digest, spec) == data for spec, digest, data in items)


@pytest.mark.parametrize("count", [0, 2])
def test_a_wrong_number_of_bases_is_an_error_that_names_pack_and_tensor(store, make, plant, count):
    bases = [make(100, seed) for seed in range(1, 1 + count)]
    store.put(bases)
    spec, digest, _ = make(100)
    name = plant(store, Entry(digest, spec, "delta", (4,), bases=tuple(b[1] for b in bases)), b"\0\0\0\0")
    with pytest.raises(CorruptError, match=f"{count} bases instead of 1") as caught:
        store.read(digest, spec)
    assert name in caught.value.message
    assert digest in caught.value.message


def test_a_base_of_another_type_is_an_error(store, make, plant):
    spec, digest, _ = make(100)
    other = (TensorSpec.of("I32", (100,)), tensor_digest(TensorSpec.of("I32", (100,)), bytes(400)), bytes(400))
    store.put([other])
    plant(store, Entry(digest, spec, "delta", (4,), bases=(other[1],)), b"\0\0\0\0")
    with pytest.raises(CorruptError, match="has type I32, not"):
        store.read(digest, spec)


def test_an_encoding_that_nobody_knows_is_an_error(store, make, plant):
    spec, digest, _ = make(100)
    plant(store, Entry(digest, spec, "from_tomorrow", (4,)), b"\0\0\0\0")
    with pytest.raises(PluginError, match="from_tomorrow"):
        store.read(digest, spec)


def test_a_base_that_is_another_than_its_name_is_found(store, steps, lean):
    old, new = steps(2)
    lean(store, new, old)
    store.put([(old[0], old[1], bytes(old[0].nbytes))])
    with pytest.raises(CorruptError, match=new[1]):
        store.read(new[1], new[0])


def test_a_flipped_bit_in_the_name_of_a_base_is_an_error_that_names_the_pack(store, steps, lean):
    old, new = steps(2)
    store.put([old])
    name = lean(store, new, old)
    assert store.read(new[1], new[0]) == new[2]
    path = store.pack_path(name)
    data = bytearray(path.read_bytes())
    data[data.index(bytes.fromhex(old[1])) + 9] ^= 4
    path.chmod(0o644)
    path.write_bytes(data)
    store.reader.close()
    # By what the index knows of the pack; then by what the pack itself says.
    with pytest.raises(CorruptError, match=f"pack {name}"):
        store.read(new[1], new[0])
    with pytest.raises(CorruptError, match=f"pack {name}.*base .* is not one that the index lists"):
        store.verify([new[1]], {new[1]: StoredBlob(path, read_pack_header(path).entries[0])})
    store.index.drop_pack(str(store.root), name)
    store.refresh()
    assert store.touch_and_find_missing([new[1]]) == {new[1]}


@pytest.fixture
def low_rank(store):
    """Store a tensor that leans on all of two factors; returns (spec, digest, bytes) and the factors' fit."""
    pair = pairs()["low rank F32"]
    target, parent = MemorySource(pair.new_spec, pair.new), MemorySource(pair.old_spec, pair.old)
    fit = find_encoding("low_rank").fit(target, parent)
    old = (pair.old_spec, tensor_digest(pair.old_spec, pair.old), pair.old)
    new = (pair.new_spec, tensor_digest(pair.new_spec, pair.new), pair.new)
    store.put([old])
    store.put([new], hints={new[1]: DeltaHint("low_rank", old[1], old[0], fit)})
    store.decoder = decode.Decoder(store.reader)  # that remembers nothing
    return new, fit


def test_a_base_too_large_to_be_held_whole_is_refused(store, low_rank, monkeypatch):
    (spec, digest, data), _ = low_rank
    monkeypatch.setattr(decode, "_LARGEST_WHOLE", 100)
    with pytest.raises(CorruptError, match="exceeds the limit of 100"):
        store.read(digest, spec)
    monkeypatch.undo()
    assert store.read(digest, spec) == data


def test_whole_bases_are_remembered_up_to_a_bound(store, low_rank, monkeypatch):
    (spec, digest, data), fit = low_rank
    factors = {tensor_digest(kind, factor): bytes(factor) for kind, factor in fit.tensors}
    assert store.read(digest, spec) == data
    assert {name: bytes(store.decoder.recall(name)) for name in factors} == factors
    monkeypatch.setattr(decode, "_REMEMBERED", 10)
    store.decoder.remember(digest, memoryview(bytes(11)))
    assert [store.decoder.recall(name) for name in (*factors, digest)] == [None] * 3


class Sized:
    """A base that counts how often its size is asked for."""

    asked = 0

    @property
    def nbytes(self):
        Sized.asked += 1
        return 10


def test_the_cost_of_remembering_a_whole_base_does_not_grow_with_how_many_are(store, monkeypatch):
    monkeypatch.setattr(decode, "_REMEMBERED", 1000)
    monkeypatch.setattr(Sized, "asked", 0)
    for number in (*range(150), *range(100, 150)):  # the last ones twice, as by two threads
        store.decoder.remember(str(number), Sized())
    assert [number for number in range(150) if store.decoder.recall(str(number))] == list(range(50, 150))
    assert Sized.asked <= 2 * 200


def test_a_whole_base_that_is_another_than_its_name_is_found(store, low_rank, plant):
    (spec, digest, _), fit = low_rank
    kind, factor = fit.tensors[0]
    name = tensor_digest(kind, factor)
    for path in list(packs_of(store, [name])):
        entries = [entry for entry in store.reader.header(store.path_of(path)).entries if entry.digest != name]
        payloads = [bytes(store.reader.chunk(store.path_of(path), entry, 0)) for entry in entries]
        store.drop([path])
        for entry, payload in zip(entries, payloads, strict=True):
            plant(store, entry, payload)
    store.put([(kind, name, bytes(kind.nbytes))])
    with pytest.raises(CorruptError, match="does not match its digest"):
        store.read(digest, spec)


def test_a_chain_of_a_lying_header_is_an_error(store, make, plant):
    spec, digest, data = make(100)
    store.put([(spec, digest, data)])
    longer = TensorSpec.of("F32", (200,))
    plant(store, Entry(tensor_digest(longer, data * 2), longer, "low_rank", (2,), bases=(digest,) * 3), b"\0\0")
    with pytest.raises(CorruptError):
        store.read(tensor_digest(longer, data * 2), longer)


@pytest.mark.parametrize("part", [(0, None), (0, 10), (4 * CHUNK - 8, 4 * CHUNK + 8), (8 * CHUNK, 99 << 20), (5, 5)])
def test_any_piece_of_a_stored_tensor_can_be_read(store, far, part):
    spec, digest, data = far(2 * CHUNK + 9)
    store.put([(spec, digest, data)])
    source = StoredSource(store.decoder, store.blobs([digest]), digest)
    assert source.spec == spec
    assert source.read(*part) == data[slice(*part)]


def test_related_sources_decode_each_chunk_of_a_chain_once(store, make, monkeypatch):
    spec, first, data = make(1000)
    second, third = (bytes([data[0] ^ at, *data[1:]]) for at in (1, 2))
    names = [first, *(tensor_digest(spec, later) for later in (second, third))]
    store.put([(spec, first, data)])
    store.put([(spec, names[1], second)], hints={names[1]: DeltaHint("delta", first, spec)})
    store.put([(spec, names[2], third)], hints={names[2]: DeltaHint("delta", names[1], spec)})
    assert depths({name: at for name, (at,) in store.locations(set(names)).items()})[names[2]] == 2
    read: list[str] = []
    chunk = PackReader.chunk
    monkeypatch.setattr(PackReader, "chunk", lambda *args: read.append(args[2].digest) or chunk(*args))
    blobs, known = store.blobs(names), DecodedChunks(1 << 20)
    values = [bytes(StoredSource(store.decoder, blobs, name, known).read()) for name in reversed(names)]
    assert values == [third, second, data]
    assert sorted(read) == sorted(names)


@pytest.mark.parametrize(("limit", "times"), [("SMALL", 3), ("_SMALL_ROOM", 3), (None, 1)])
def test_a_small_tensor_that_was_verified_is_not_read_again_for_its_deltas(
    store, steps, lean, monkeypatch, limit, times
):
    old, *later = steps(3)
    if limit:
        monkeypatch.setattr(decode, limit, old[0].nbytes - 1)
        store.decoder = decode.Decoder(store.reader)
    source = Store(store.root.parent / "source")
    source.put([old])
    (name,) = packs_of(source, [old[1]])
    path = store.root / "copy"
    path.write_bytes(source.pack_path(name).read_bytes())
    source.close()
    store.adopt(name, path)
    for new in later:
        lean(store, new, old)
    read: list[str] = []
    chunk = PackReader.chunk
    monkeypatch.setattr(PackReader, "chunk", lambda *args: read.append(args[2].digest) or chunk(*args))
    assert not store.touch_and_find_missing({new[1] for new in later})
    assert read.count(old[1]) == times
    assert all(store.read(digest, spec) == data for spec, digest, data in [old, *later])


def test_decoded_chunks_above_the_limit_are_forgotten_oldest_first():
    known = DecodedChunks(8)
    for number in range(3):
        known.add("digest", number, memoryview(bytes(4)))
        known.get("digest", 0)
    assert [known.get("digest", number) is None for number in range(3)] == [False, True, False]
    known.add("digest", 3, memoryview(bytes(100)))
    assert [known.get("digest", number) is None for number in range(4)] == [True, True, True, False]


def test_reads_that_come_back_short_are_gone_on_with(store, make, monkeypatch):
    spec, digest, data = make(1000)
    store.put([(spec, digest, data)])
    store.reader.close()
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, count, at: pread(descriptor, max(1, count // 2), at))
    assert store.read(digest, spec) == data
