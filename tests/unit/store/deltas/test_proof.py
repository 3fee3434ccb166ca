from pathlib import Path

import pytest

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces import Fit
from git_theta_ext.registry import find_encoding
from git_theta_ext.store.deltas.encode import DeltaHint, MemorySource, coded_blobs
from git_theta_ext.store.deltas.proof import provable, proven_blob
from git_theta_ext.store.packs.hashed_writes import HashedWrites
from git_theta_ext.store.packs.reader import read_pack_header
from git_theta_ext.util.files import sha256_of

SINGLE, SEVERAL = 4096, (1 << 20) + 4096
"""Elements of a tensor of one chunk and of three."""


def proven(store, new, old):
    hint, blobs = DeltaHint("delta", old[1], old[0]), store.blobs({new[1], old[1]})
    assert provable(blobs, new[1], hint)
    return proven_blob(store.decoder, blobs, new[1], hint)


def payload(pieces):
    return b"".join(bytes(memoryview(piece).cast("B")) for piece in pieces)


@pytest.fixture
def decoded(store, monkeypatch):
    """Return the digests of the tensors that a store has decoded from packs."""
    digests = []
    real = store.decoder.decode

    def decode(blobs, digest, *args):
        digests.append(digest)
        real(blobs, digest, *args)

    monkeypatch.setattr(store.decoder, "decode", decode)
    return digests


@pytest.mark.parametrize("elements", [SINGLE, SEVERAL])
def test_a_proven_delta_has_the_bytes_of_any_other_and_is_not_read_back(store, steps, decoded, elements):
    old, new = steps(2, elements=elements)
    store.put([old, new])
    blob = proven(store, new, old)
    (other,) = coded_blobs(
        new[1], DeltaHint("delta", old[1], old[0]), lambda: MemorySource(*new[::2]), lambda: MemorySource(*old[::2])
    )
    decoded.clear()
    (name,) = store.write([[blob]], loose=False)
    chunks = len(store.reader.header(store.pack_path(name)).entries[0].chunks)
    assert sorted(decoded) == sorted(chunks * [old[1], new[1]])
    assert [payload(blob.encode(at)) for at in range(chunks)] == [payload(other.encode(at)) for at in range(chunks)]
    assert store.was_verified(new[1], name)
    assert store.read(new[1], new[0]) == new[2]


def test_the_header_of_a_new_pack_of_deltas_is_that_of_its_file(store, steps):
    old, new = steps(2, elements=SEVERAL)
    store.put([old, new])
    (name,) = store.write([[proven(store, new, old)]], loose=False)
    path = store.pack_path(name)
    assert store.reader.header(path) == read_pack_header(path)


def test_a_small_parent_is_decoded_once_for_several_deltas(store, steps, decoded):
    old, *news = steps(3, elements=SINGLE)
    store.put([old, *news])
    blobs = [proven(store, new, old) for new in news]
    decoded.clear()
    store.write([blobs], loose=False)
    assert sorted(decoded) == sorted([old[1], *(new[1] for new in news)])


def test_a_parent_that_another_pack_has_too_is_decoded_from_the_pack_that_the_proof_names(store, steps, decoded):
    old, new = steps(2, elements=SINGLE)
    store.put([old, new])
    blob = proven(store, new, old)
    store.decoder.keep_small(old[1], memoryview(old[2]), pack="another")
    decoded.clear()
    store.write([[blob]], loose=False)
    assert old[1] in decoded


@pytest.mark.parametrize("elements", [SINGLE, SEVERAL])
@pytest.mark.parametrize("damaged", ["tensor", "parent"])
def test_a_damaged_tensor_or_parent_is_named_and_nothing_is_stored(store, steps, elements, damaged):
    old, new = steps(2, elements=elements)
    for item in (old, new):
        store.put([item])
    wrong = new if damaged == "tensor" else old
    (location,) = store.locations({wrong[1]})[wrong[1]]
    path = store.pack_path(location.pack)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(-1, 2)
        (last,) = file.read()
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    before = {pack for _, pack in store.pack_files()}
    with pytest.raises(CorruptError, match=f"pack {location.pack}: the stored tensor does not match"):
        store.write([[proven(store, new, old)]], loose=False)
    assert {pack for _, pack in store.pack_files()} == before
    assert store.touch_and_find_missing([old[1], new[1]]) == {wrong[1]}


def test_an_encoding_that_loses_something_is_found(store, steps, monkeypatch):
    old, new = steps(2)
    store.put([old, new])
    delta = type(find_encoding("delta"))
    real = delta.encode
    monkeypatch.setattr(delta, "encode", lambda self, chunk, data: real(self, chunk, memoryview(bytes(data.nbytes))))
    with pytest.raises(CorruptError, match="the encoding delta does not return tensor"):
        store.write([[proven(store, new, old)]], loose=False)


def test_a_pack_that_was_compared_is_named_after_its_bytes(store, steps):
    old, new = steps(2)
    store.put([old, new])
    (name,) = store.write([[proven(store, new, old)]], loose=False)
    assert sha256_of(store.pack_path(name)) == name


@pytest.mark.parametrize("at", [30, -1], ids=["head", "chunks"])
def test_a_file_with_other_bytes_than_were_written_is_no_pack(store, steps, monkeypatch, at):
    old, new = steps(2)
    store.put([old, new])
    before = {pack for _, pack in store.pack_files()}
    real = HashedWrites.compare

    def compare(self, path: Path, head: int) -> str:
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)
        return real(self, path, head)

    monkeypatch.setattr(HashedWrites, "compare", compare)
    with pytest.raises(CorruptError, match="the disk returns other bytes"):
        store.write([[proven(store, new, old)]], loose=False)
    assert {pack for _, pack in store.pack_files()} == before


def test_a_parent_of_which_not_all_is_read_and_parameters_need_reading_back(store, make, steps):
    small, large = make(1000), make(2000)
    store.put([small, large])
    blobs = store.blobs({small[1], large[1]})
    assert provable(blobs, large[1], DeltaHint("delta", small[1], small[0]))
    assert not provable(blobs, small[1], DeltaHint("delta", large[1], large[0]))
    assert not provable(blobs, large[1], DeltaHint("ternary", small[1], small[0], Fit({"scale": 1.0})))


def test_a_grown_tensor_is_proven_with_a_parent_of_fewer_chunks(store, make):
    old, new = make(SINGLE, seed=1), make(SEVERAL, seed=2)
    store.put([old, new])
    store.write([[proven(store, new, old)]], loose=False)
    assert store.read(new[1], new[0]) == new[2]
