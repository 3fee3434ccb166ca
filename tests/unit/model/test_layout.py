import zlib

import msgpack
import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.model.layout import Checksum, ChecksumField, Extent, Layout, Literal, Slice, layout_of
from git_theta_ext.model.tensor import TensorSpec

SPEC = TensorSpec.of("U8", (4,))


def build(data, fields):
    return layout_of(memoryview(data), fields, zlib.crc32)


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
    with pytest.raises(FormatError, match="cannot be written down"):
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
