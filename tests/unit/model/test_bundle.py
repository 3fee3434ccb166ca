"""Bundles: what names one, the rows that headers have of them, and rows that are refused."""

import struct

import msgpack
import pytest
from bounds import memory_of
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.errors import CorruptError, FormatError
from git_theta_ext.model.bundle import MOST_MEMBERS, Bundle
from git_theta_ext.model.tensor import TensorSpec, digest_of
from git_theta_ext.store.packs.format import MAGIC, Entry, read_header, write_header

SHAPES = st.lists(st.lists(st.integers(1, 3), max_size=4).map(tuple), min_size=1, max_size=12)
TYPES = st.sampled_from(["F32", "BF16", "BOOL", "C128", "F8_E4M3", "opaque272:Q8_0", "F4", "F6_E2M3"])


def digest(number):
    return digest_of(struct.pack("<QQQQ", number, 1, 2, 3))


def members(dtype, shapes):
    """Return spec and digest of tensors; those of elements of less than a byte have another dimension of four."""
    if dtype in {"F4", "F6_E2M3"}:
        shapes = [(*shape, 4) for shape in shapes]
    return [(TensorSpec.of(dtype, shape), digest(number)) for number, shape in enumerate(shapes)]


def numbers(*values):
    return struct.pack(f"<{len(values)}I", *values)


@given(TYPES, SHAPES)
def test_a_bundle_comes_back_from_its_row(dtype, shapes):
    tensors = members(dtype, shapes)
    bundle = Bundle.of(tensors)
    again = Bundle.from_row(dtype, bundle.row())
    assert again == bundle
    assert [(spec, name) for _, spec, name in again.members()] == tensors
    assert list(again.specs()) == [spec for spec, _ in tensors]
    sizes = [spec.nbytes for spec, _ in tensors]
    assert [start for start, _, _ in again.members()] == [sum(sizes[:number]) for number in range(len(sizes))]
    assert [(at, name) for at, _, name in again.members()] == [*zip(again.starts(), again.digests(), strict=True)]
    assert len(again) == len(again.digests())
    assert again.spec.nbytes == sum(sizes)


@given(TYPES, SHAPES)
def test_the_header_of_a_pack_keeps_bundles(dtype, shapes):
    bundle = Bundle.of(members(dtype, shapes))
    head = write_header([Entry(bundle.digest, bundle.spec, "dense", (5,), bundle=bundle)])
    (entry,) = read_header(head).entries
    assert (entry.digest, entry.spec, entry.bundle) == (bundle.digest, bundle.spec, bundle)
    assert head[8] == 2  # earlier versions of the program must not take it for a tensor


def test_everything_that_a_bundle_consists_of_is_in_its_digest():
    shapes = [(2, 3), (2, 3), (6,)]
    tensors = members("F32", shapes)
    others = [
        members("I32", shapes),
        members("F32", [(3, 2), (2, 3), (6,)]),
        members("F32", [(2, 3), (6,), (2, 3)]),
        members("F32", [(2, 3), (6,), (6,)]),
        members("F32", [(2, 3), (2, 3), (1, 6)]),
        tensors[::-1],
        tensors[:2],
        [*tensors, tensors[0]],
        [*tensors[:2], (tensors[2][0], digest(9))],
    ]
    named = {Bundle.of(each).digest for each in [tensors, *others]}
    assert len(named) == 1 + len(others)
    assert not named & {name for _, name in tensors}


def test_the_digest_of_a_bundle_never_changes():
    bundle = Bundle.of(members("BF16", [(4,), (4,), (2, 8)]))
    assert bundle.digest == "97775183763d1a4823d37b8fe0e4af2f6e03ebb7d7874f07ec67e30f0dbfbcc8"


RAW = bytes(32)


@pytest.mark.parametrize(
    "row",
    [
        ("x", RAW),
        (numbers(1, 0), "x"),
        (None, None),
        (numbers(1, 0),),
        (numbers(1, 0), RAW, RAW),
        (numbers(1, 0)[:-1], RAW),
        (numbers(1), RAW),
        (numbers(1, 2, 3), RAW),
        (numbers(1, 1 << 31), RAW),
        (b"", b""),
        (b"", RAW),
        (numbers(0, 0), RAW),
        (numbers(0, 0), b""),
        (numbers(1, 0, 0, 1, 2), RAW),
        (numbers(1, 0, 0, 1, 2), 2 * RAW),
        (numbers(2, 0), RAW),
        (numbers(1, 0), RAW[:-1]),
        (numbers(1, 0), 2 * RAW),
        (numbers(1, 1, 0), RAW),
        (numbers(1, 1, 4, 1, 1, 4), 2 * RAW),
        (numbers(1, 1, 1 << 31), RAW),
        (numbers(1, 3, 1 << 31, 1 << 31, 1 << 31), RAW),
        (numbers(1, 200, *[1] * 200), RAW),
        (numbers(MOST_MEMBERS + 1, 0), RAW * (MOST_MEMBERS + 1)),
    ],
)
def test_a_row_of_no_bundle_is_refused(row):
    with pytest.raises((TypeError, ValueError, FormatError)):
        Bundle.from_row("F32", row)
    body = msgpack.packb({"entries": [[RAW, "F32", [1], "dense", {}, [], bytes(4), *row]]}, use_bin_type=True)
    with pytest.raises(CorruptError):
        read_header(MAGIC + (2).to_bytes(4, "little") + len(body).to_bytes(8, "little") + body)


def hostile(shapes, raw=RAW, dtype="F32", kept=(1,)):
    row = [RAW, dtype, list(kept), "dense", {}, [], bytes(4), shapes, raw]
    body = msgpack.packb({"entries": [row]}, use_bin_type=True)
    return MAGIC + (2).to_bytes(4, "little") + len(body).to_bytes(8, "little") + body


@pytest.mark.parametrize(
    "head",
    [
        hostile(numbers(1, 0, 1, 1, 1) * (1 << 16)),
        hostile(numbers(1, 1, 3, 1, 1, 2) * (1 << 12), RAW * (1 << 13)),
        hostile(numbers(1 << 30, 0)),
        hostile(numbers(1, (1 << 18) - 2, *range(1 << 31, (1 << 31) + (1 << 18) - 2))),
        hostile(numbers(*range(1 << 31, (1 << 31) + (1 << 18)))),
        hostile(numbers(1, 0), RAW * (1 << 15)),
    ],
    ids=["shapes without tensors", "many shapes", "many tensors", "one shape", "large numbers", "digests"],
)
def test_a_bundle_in_a_header_takes_memory_in_proportion_to_the_header(head):
    assert memory_of(lambda: read_header(head)) < 16 * len(head) + (1 << 18)
