"""Chunks by content."""

import hashlib

import pytest
from blake3 import blake3

from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import lay_out
from git_theta_plugins.formats import opaque
from git_theta_plugins.formats.opaque import FORMAT, LARGEST, SMALLEST, boundaries

GEAR = "c2a5e3a3cdd85d548138e54214e2b2b48a549ca9468fe3d54d10420e798929c5"
NOISE_CUTS = [
    272817,
    442303,
    759201,
    1142094,
    1303452,
    1903670,
    2110161,
    2295655,
    2754431,
    3682082,
    3822679,
    3964911,
    5266831,
    6161755,
    6291456,
]
NOISE = blake3(b"noise").digest(length=6 << 20)


class TestOpaque(FormatTests):
    format = FORMAT
    examples = {"text": b"hello", "empty": b"", "two chunks": NOISE[: LARGEST + 9]}  # noqa: RUF012 - as the suite asks


def cuts(data, **options):
    return list(boundaries(memoryview(data), **options))


def test_the_places_of_cuts_never_change():
    assert hashlib.sha256(opaque._gear().astype("<u4").tobytes()).hexdigest() == GEAR
    assert cuts(NOISE) == NOISE_CUTS


def test_the_hash_is_the_sum_it_is_said_to_be(monkeypatch):
    monkeypatch.setattr(opaque, "_THRESHOLD", 1 << 24)
    data = NOISE[:4096]
    gear = opaque._gear().tolist()
    expected = []
    for i in range(len(data)):
        total = sum(gear[data[i - k]] << k for k in range(min(32, i + 1))) % (1 << 32)
        expected += [i + 1] if total < 1 << 24 else []
    places = [opaque._cuts(memoryview(data), start, start + 2048).tolist() for start in (0, 2048)]
    assert places[0] + places[1] == expected
    assert expected


@pytest.mark.parametrize("slab", [1 << 16, (1 << 18) + 1, 1 << 23])
def test_the_size_of_a_slab_changes_nothing(slab):
    assert cuts(NOISE, slab=slab) == cuts(NOISE)


@pytest.mark.parametrize("data", [NOISE, bytes(5 << 20)], ids=["noise", "zeros"])
def test_chunks_keep_the_limits(data):
    ends = cuts(data)
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    assert sum(sizes) == len(data)
    assert all(SMALLEST <= size <= LARGEST for size in sizes[:-1])
    assert 0 < sizes[-1] <= LARGEST


@pytest.mark.parametrize("size", [0, 1, SMALLEST - 1, SMALLEST, SMALLEST + 1])
def test_small_files_are_one_chunk(size):
    assert cuts(NOISE[:size]) == [size][: bool(size)]


def test_an_insertion_leaves_most_chunks_as_they_were():
    at = len(NOISE) // 2
    before = set(lay_out(FORMAT, NOISE)[1].values())
    after = set(lay_out(FORMAT, NOISE[:at] + b"inserted" + NOISE[at:])[1].values())
    assert len(after - before) <= 2
    assert len(after & before) >= len(before) - 2


def test_names_are_numbers_in_file_order():
    extents = FORMAT.parse(memoryview(NOISE))
    assert [extent.name for extent in extents] == [f"chunk/{n:06}" for n in range(len(extents))]
    assert [extent.offset for extent in extents[1:]] == [extent.end for extent in extents[:-1]]
