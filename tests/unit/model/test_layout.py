import zlib

import msgpack
import pytest
from bounds import CountedText, memory_of

from git_theta_ext.errors import FormatError
from git_theta_ext.model.fields import ChecksumField, Extent
from git_theta_ext.model.layout import Checksum, Layout, Literal, Packing, Slice, layout_of
from git_theta_ext.model.tensor import TensorSpec

SPEC = TensorSpec.of("U8", (4,))


def build(data, fields):
    return layout_of(memoryview(data), fields, lambda extent, seed: zlib.crc32(data[extent.offset : extent.end], seed))


def test_what_no_field_covers_is_literal():
    layout = build(b"headAAAAgapBBBBtail", [Extent("b", SPEC, 11), Extent("a", SPEC, 4)])
    assert layout.segments == (
        Literal(b"head"),
        Slice("a", SPEC),
        Literal(b"gap"),
        Slice("b", SPEC),
        Literal(b"tail"),
    )
    assert layout.nbytes == 19
    assert [offset for offset, _ in layout.located()] == [0, 4, 8, 11, 15]


def test_a_right_checksum_is_kept_apart_and_a_wrong_one_is_literal():
    right = zlib.crc32(b"AAAA").to_bytes(4, "little")
    fields = [Extent("a", SPEC, 0), ChecksumField("a", 4), ChecksumField("a", 8)]
    layout = build(b"AAAA" + right + b"\0\0\0\0", fields)
    assert layout.segments == (Slice("a", SPEC), Checksum("a"), Literal(b"\0\0\0\0"))


def test_several_empty_tensors_may_share_an_offset():
    empty = TensorSpec.of("F32", (0,))
    layout = build(b"AAAA", [Extent("y", empty, 0), Extent("a", SPEC, 0), Extent("x", empty, 0), Extent("z", empty, 4)])
    assert layout.nbytes == 4
    assert set(layout.parameters) == {"a", "x", "y", "z"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([Extent("a", SPEC, 0), Extent("b", SPEC, 3)], "'b'.*overlaps"),
        ([Extent("a", SPEC, 7)], "'a' is at bytes 7 to 11"),
        ([Extent("a", SPEC, -1)], "'a' is at"),
        ([Extent("a", SPEC, 0), Extent("a", SPEC, 4)], "'a' appears twice"),
        ([ChecksumField("a", 0)], "checksum of parameter 'a'"),
    ],
)
def test_impossible_places_are_refused_by_name(fields, message):
    with pytest.raises(FormatError, match=message):
        build(b"0123456789", fields)


def test_a_name_that_json_would_change_is_refused():
    with pytest.raises(FormatError, match="a name that JSON cannot represent"):
        Extent("\ud83d\ude00", SPEC, 0)


def test_a_skeleton_gives_the_layout_back():
    layout = Layout((Literal(b"\0\xff"), Slice("ä\ud800\n", SPEC), Checksum("ä\ud800\n"), Slice("", SPEC)))
    assert Layout.from_skeleton(layout.to_skeleton()) == layout


@pytest.mark.parametrize(
    "skeleton",
    [
        b"",
        b"git-theta skeleton 2\n\x90",
        b"git-theta skeleton 1\n",
        b"git-theta skeleton 1\n\x90\x90",
        b"git-theta skeleton 1\n\xdd\xff\xff\xff\xff",
        b"git-theta skeleton 1\n" + msgpack.packb({"a": 1}),
        b"git-theta skeleton 1\n" + msgpack.packb([["a", "F32", [True]]]),
        b"git-theta skeleton 1\n" + msgpack.packb([["a", "F99", [1]]]),
        b"git-theta skeleton 1\n" + msgpack.packb([["a"]]),
        b"git-theta skeleton 1\n" + msgpack.packb([[3]]),
        b"git-theta skeleton 1\n" + msgpack.packb([[msgpack.ExtType(1, b"\xff")]]),
    ],
)
def test_damaged_skeletons_are_refused(skeleton):
    with pytest.raises(FormatError):
        Layout.from_skeleton(skeleton)


def lists(count):
    """MessagePack of so many empty lists in a list."""
    return b"\xdd" + count.to_bytes(4, "big") + b"\x90" * count


@pytest.mark.parametrize(
    "rows",
    [
        b"\xdd\0\0\0\x08" + lists(1 << 14) * 8,
        b"\x91\x91" + lists(1 << 16),
        b"\x91" * 400 + b"\x90",
        b"\x91" + b"\xdd\0\xff\xff\xff" * 400,
        b"\xdd\0\x01\0\0" + b"\x91\xa0" * (1 << 16),
        b"\xdd\0\0\x40\0" + b"\x93\xa2ab\xa2U8\x90" * (1 << 14),
    ],
    ids=["rows of lists", "a list in a row", "deep", "deep claims", "small rows", "one name"],
)
def test_a_skeleton_takes_memory_in_proportion_to_its_size(rows):
    skeleton = b"git-theta skeleton 1\n" + rows
    assert memory_of(lambda: Layout.from_skeleton(skeleton)) < 24 * len(skeleton) + (1 << 18)


def test_the_number_of_parameters_bounds_the_segments_of_a_skeleton():
    skeleton = b"git-theta skeleton 1\n\xdd\0\x01\0\0" + b"\x91\xc4\x04abcd" * (1 << 16)
    with pytest.raises(FormatError, match="exceed the limit of 32"):
        Layout.from_skeleton(skeleton, 1)
    with pytest.raises(FormatError, match="limit of 32"):
        Layout((Slice("a", SPEC), *[Literal(b"abcd")] * 40))


def test_names_are_compared_no_more_often_than_there_are_some():
    names = [CountedText(f"{number:06}") for number in range(2000)]
    CountedText.comparisons = 0
    with pytest.raises(FormatError, match="'001999' appears twice"):
        Layout(tuple(Slice(name, SPEC) for name in [*names, CountedText("001999")]))
    assert CountedText.comparisons < 4 * len(names)


def test_how_a_file_is_packed_is_at_the_beginning_of_its_skeleton():
    packings = (Packing("gzip", b"\6\x08head"), Packing("zip", b""))
    layout = Layout((Literal(b"abcd"), Slice("a", SPEC)), packings)
    skeleton = layout.to_skeleton()
    assert skeleton.startswith(b"git-theta skeleton 3\n")
    assert Layout.from_skeleton(skeleton, 1) == layout
    assert Layout.from_skeleton(skeleton, 1).nbytes == 4 + SPEC.nbytes
    for rows in (
        [[b"x"], ["gzip", b""]],
        [["gzip", b""]] * 5,
        [[b"x"]],
    ):
        with pytest.raises(
            FormatError, match=r"packings are not at the beginning|exceed the limit|are not those of version 3"
        ):
            Layout.from_skeleton(b"git-theta skeleton 3\n" + msgpack.packb(rows), 0)
    for version in (b"skeleton 1", b"skeleton 2"):
        with pytest.raises(FormatError, match="its segments are not those of version"):
            Layout.from_skeleton(skeleton.replace(b"skeleton 3", version), 1)
