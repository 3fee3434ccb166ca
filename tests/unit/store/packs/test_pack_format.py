import weakref
from pathlib import Path

import msgpack
import pytest
from bounds import memory_of

from git_theta_ext.errors import CorruptError
from git_theta_ext.interfaces.encodings import RESERVED_NAMES
from git_theta_ext.model.tensor import TensorSpec, skeleton_spec
from git_theta_ext.store.packs import format as pack_format
from git_theta_ext.store.packs.format import (
    MAGIC,
    MAX_HEADER,
    PREFIX_BYTES,
    Entry,
    chunk_count,
    chunk_range,
    header_length,
    read_header,
    write_header,
)

GOLDEN = Path(__file__).parents[3] / "golden" / "pack-1.head"
BIG = TensorSpec.of("F32", (1 << 20,))
ENTRIES = (
    Entry("a" * 64, BIG, "dense", (3, 4)),
    Entry("b" * 64, TensorSpec.of("BF16", ()), "delta", (1,), bases=("a" * 64,), params={"k": 2}),
    Entry("c" * 64, skeleton_spec(9), "dense", (9,)),
    Entry("d" * 64, TensorSpec.of("F32", (0, 3)), "dense", ()),
)


def test_a_header_gives_its_entries_back_with_their_offsets():
    head = write_header(ENTRIES)
    header = read_header(head + b"chunks")
    assert [entry.digest for entry in header.entries] == ["a" * 64, "b" * 64, "c" * 64, "d" * 64]
    assert [entry.spec for entry in header.entries] == [entry.spec for entry in ENTRIES]
    assert [entry.offset - len(head) for entry in header.entries] == [0, 7, 8, 17]
    assert header.entries[1].bases == ("a" * 64,)
    assert header.entries[1].params == {"k": 2}
    assert header.nbytes == header_length(head[:PREFIX_BYTES]) == len(head)
    assert header.pack_bytes == len(head) + 17


def test_a_large_head_is_read_once_while_its_header_is_in_use():
    one, other = (write_header([Entry(digest * 64, BIG, "dense", (1, 1)) for digest in "abcd" * 300]) for _ in range(2))
    header = read_header(one)
    assert read_header(other + b"chunks") is header
    with pytest.raises(CorruptError, match="truncated"):
        read_header(one[:-1])
    changed = bytearray(one)
    changed[one.index(b"\xaa" * 32)] ^= 1
    assert read_header(bytes(changed)).entries[0].digest == "ab" + "a" * 62
    assert read_header(one) is header


def test_the_latest_large_heads_are_read_once_and_older_ones_are_let_go(monkeypatch):
    heads = [write_header([Entry(letter * 64, BIG, "dense", (1, 1)) for _ in range(1200)]) for letter in "ef01"]
    monkeypatch.setattr(pack_format, "_KEPT", 2 * len(heads[0]))
    first = weakref.ref(read_header(heads[0]))
    assert read_header(heads[0]) is first()
    later = [weakref.ref(read_header(head)) for head in heads[1:]]
    assert first() is None
    assert [one() is None for one in later] == [True, False, False]


def test_the_bytes_of_version_1_never_change():
    assert write_header(ENTRIES) == GOLDEN.read_bytes()


def test_the_length_does_not_depend_on_the_sizes_of_chunks():
    small, large = (Entry("a" * 64, BIG, "dense", sizes) for sizes in [(0, 0), (2_000_000, 1)])
    assert len(write_header([small])) == len(write_header([large]))


def test_chunks_cover_a_tensor_exactly():
    spec = TensorSpec.of("F32", ((1 << 20) + 1,))
    assert chunk_count(spec) == 3
    assert [chunk_range(spec, number) for number in range(3)] == [
        (0, 1 << 21),
        (1 << 21, 1 << 22),
        (1 << 22, spec.nbytes),
    ]
    assert chunk_count(TensorSpec.of("F32", (0,))) == 0


def rows(**change):
    row = {
        "digest": b"a" * 32,
        "dtype": "F32",
        "shape": [1],
        "encoding": "dense",
        "params": {},
        "bases": [],
        "sizes": b"\4\0\0\0",
    } | change
    body = msgpack.packb({"entries": [list(row.values())]})
    return write_header([])[:12] + len(body).to_bytes(8, "little") + body


def test_a_row_made_by_hand_is_read():
    assert read_header(rows()).entries[0].chunks == (4,)


@pytest.mark.parametrize("same", [True, 1.0])
def test_a_shape_is_of_integers_even_after_an_equal_one_was_read(same):
    read_header(rows())
    with pytest.raises(CorruptError, match="not a list of integers"):
        read_header(rows(shape=[same]))


@pytest.mark.parametrize(("sizes", "right"), [((8, 8), True), ((2 * (1 << 21) + 1024, 9), True), ((8, 1033), False)])
def test_each_chunk_has_a_limit(sizes, right):
    spec = TensorSpec.of("F32", ((1 << 19) + 1,))
    head = write_header([Entry("a" * 64, spec, "dense", sizes)])
    if right:
        assert read_header(head).entries[0].chunks == sizes
    else:
        with pytest.raises(CorruptError, match="larger than its tensor allows"):
            read_header(head)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GTHETAPK",
        b"NOTAPACK" + bytes(12),
        b"GTHETAPK\2\0\0\0" + bytes(8),
        b"GTHETAPK\1\0\0\0" + (MAX_HEADER + 1).to_bytes(8, "little"),
        write_header(ENTRIES)[:-1],
        rows(digest=b"short"),
        rows(dtype="F99"),
        rows(dtype="skeleton", shape=[1, 2]),
        rows(shape=[-1]),
        rows(shape=[1 << 60]),
        rows(shape=["1"]),
        rows(encoding=3),
        rows(params=[]),
        rows(bases=[b"x"]),
        rows(bases=[b"a" * 32] * 9),
        rows(sizes=b""),
        rows(sizes=b"\xff\xff\xff\xff"),
        write_header([])[:12] + b"\1" + bytes(7) + b"\x90",
        write_header([])[:12] + b"\5" + bytes(7) + b"\xdd\xff\xff\xff\xff",
    ],
)
def test_damaged_headers_are_refused(data):
    with pytest.raises(CorruptError):
        read_header(data)


@pytest.mark.parametrize(
    "row",
    [
        [b"a" * 32, "F32", [2.0], "dense", {}, [], bytes(4)],
        [b"a" * 32, "F32", [True], "dense", {}, [], bytes(4)],
        [b"a" * 32, "F32", [float("inf")], "dense", {}, [], b""],
        [b"a" * 32, "F32", [2], "delta", {}, ["x" * 32], bytes(4)],
        ["a" * 32, "F32", [2], "dense", {}, [], bytes(4)],
        [b"a" * 32, "F32", [2], "dense", {}, [], "abcd"],
    ],
    ids=["float shape", "truth shape", "infinite shape", "text base", "text digest", "text sizes"],
)
def test_a_header_that_claims_something_odd_is_refused(row):
    body = msgpack.packb({"entries": [row]}, use_bin_type=True)
    with pytest.raises(CorruptError):
        read_header(MAGIC + (1).to_bytes(4, "little") + len(body).to_bytes(8, "little") + body)


@pytest.mark.parametrize(
    "row",
    [
        rows(params={"x": [[]] * (1 << 18)}),
        rows(shape=[[]] * (1 << 18)),
        rows(params={str(n): 0 for n in range(1 << 16)}),
        rows(bases=[b""] * (1 << 16)),
    ],
    ids=["params", "shape", "keys", "bases"],
)
def test_a_header_takes_memory_in_proportion_to_its_size(row):
    assert memory_of(lambda: read_header(row)) < 16 * len(row) + (1 << 18)


def test_no_plugin_can_have_the_name_of_an_entry_without_bytes():
    assert pack_format.WITHOUT_CHUNKS == RESERVED_NAMES
