import random
import zlib

import msgpack
import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.model.checksums import checksums, seeds_of
from git_theta_ext.model.crc32 import crc32_combine
from git_theta_ext.model.fields import ChecksumField, Extent, RangeChecksumField
from git_theta_ext.model.layout import Checksum, Layout, Literal, RangeChecksum, Slice, layout_of
from git_theta_ext.model.tensor import TensorSpec

SPEC = TensorSpec.of("U8", (4,))
EMPTY = TensorSpec.of("U8", (0,))


def test_checksums_of_two_pieces_are_combined():
    draw = random.Random(3)
    for sizes in [(0, 0), (0, 9), (9, 0), *((draw.randrange(40), draw.randrange(5000)) for _ in range(50))]:
        first, second = map(draw.randbytes, sizes)
        assert crc32_combine(zlib.crc32(first), zlib.crc32(second), sizes[1]) == zlib.crc32(first + second)


def file_of(first=b"AAAA", second=b"BBBB"):
    member = b"ead" + first + b"-gap-" + second + b"ta"
    data = b"h" + member + zlib.crc32(member).to_bytes(4, "little") + b"end"
    extents = [Extent("b", SPEC, 13), Extent("a", SPEC, 4), Extent("none", EMPTY, 17)]
    return data, [*extents, RangeChecksumField(1, 19, 19)]


def build(data, fields):
    return layout_of(memoryview(data), fields, lambda extent, seed: zlib.crc32(data[extent.offset : extent.end], seed))


def test_a_checksum_of_several_tensors_follows_their_values():
    layout = build(*file_of())
    assert layout.segments[-2:] == (RangeChecksum(1, 19), Literal(b"end"))
    assert layout == build(*file_of(b"CCCC", b"DDDD"))
    values = {"a": b"CCCC", "b": b"DDDD"}
    ((at, value),) = checksums(layout, lambda name, seed: zlib.crc32(values[name], seed))
    assert file_of(first=b"CCCC", second=b"DDDD")[0][at : at + 4] == value
    assert {name: seeds for name, seeds in seeds_of(layout).items() if name != "none"} == {"a": {0}, "b": {0}}


def test_a_wrong_checksum_of_a_range_is_literal():
    data, fields = file_of()
    assert not build(data.replace(b"gap", b"gab"), fields).ranges


def test_a_range_with_another_checksum_or_a_part_of_a_tensor_is_literal():
    data, fields = file_of()
    assert not build(data, [*fields, ChecksumField("a", 8)]).ranges
    assert not build(data, [*fields[:3], RangeChecksumField(1, 15, 19)]).ranges


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([(0, 4), (3, 6)], "overlap at byte 3"),
        ([(0, 99)], "outside the file"),
        ([(3, 9)], "a part of what is at byte 1"),
        ([(0, 3)], "a part of what is at byte 1"),
        ([(0, 8)], "a part of what is at byte 5"),
    ],
)
def test_ranges_are_of_whole_tensors_and_apart_from_each_other(ranges, message):
    with pytest.raises(FormatError, match=message):
        Layout((Literal(b"h"), Slice("a", SPEC), *(RangeChecksum(*pair) for pair in ranges)))


def test_skeletons_have_the_version_that_they_need():
    layout = build(*file_of())
    skeleton = layout.to_skeleton()
    assert skeleton.startswith(b"git-theta skeleton 2\n")
    assert Layout.from_skeleton(skeleton, 3) == layout
    assert Layout((Slice("a", SPEC), Checksum("a"))).to_skeleton().startswith(b"git-theta skeleton 1\n")


@pytest.mark.parametrize(
    "skeleton",
    [
        b"git-theta skeleton 2\n" + msgpack.packb([[b"abc"]]),
        b"git-theta skeleton 1\n" + msgpack.packb([[b"abcd"], [0, 4]]),
        b"git-theta skeleton 2\n" + msgpack.packb([[b"abcd"], [-1, 4]]),
        b"git-theta skeleton 2\n" + msgpack.packb([[b"abcd"], [4, 0]]),
        b"git-theta skeleton 2\n" + msgpack.packb([[b"abcd"], [0, 1 << 63]]),
    ],
)
def test_damaged_skeletons_with_ranges_are_refused(skeleton):
    with pytest.raises(FormatError):
        Layout.from_skeleton(skeleton)


def test_a_skeleton_of_a_later_version_says_what_reads_it():
    with pytest.raises(FormatError, match="version 4 is not supported") as error:
        Layout.from_skeleton(b"git-theta skeleton 4\n\x90")
    assert error.value.hint == "pip install --upgrade git-theta-ext"
