"""The zip reader, against archives of the standard library and against lies."""

import io
import struct
import zipfile

import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_plugins.formats import _zip


class _Unseekable(io.RawIOBase):
    def __init__(self):
        self.data = bytearray()

    def writable(self):
        return True

    def write(self, data):
        self.data += data
        return len(data)


def archive(entries, target=None, **options):
    target = io.BytesIO() if target is None else target
    with zipfile.ZipFile(target, "w", **options) as made:
        for name, data in entries.items():
            made.writestr(name, data)
    return bytes(target.data if isinstance(target, _Unseekable) else target.getvalue())


def members(data):
    return _zip.members(memoryview(data))


ENTRIES = {"a": b"first", "dir/é": b"", "z": b"x" * 70}


@pytest.mark.parametrize("target", [None, _Unseekable()], ids=["seekable", "streamed"])
def test_members_lie_where_they_are_said_to(target):
    data = archive(ENTRIES, target)
    found = members(data)
    assert {member.name: data[member.start : member.end] for member in found} == ENTRIES
    for member, info in zip(found, zipfile.ZipFile(io.BytesIO(data)).infolist(), strict=True):
        sums = [struct.unpack_from("<L", data, place)[0] for place in member.checksums]
        assert sums == [info.CRC, info.CRC]


def test_an_empty_archive_has_no_members():
    assert members(archive({})) == []


def test_a_comment_that_looks_like_an_end_is_no_end():
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        made.writestr("a", b"1")
        made.comment = b"PK\5\6" + bytes(40)
    assert [member.name for member in members(target.getvalue())] == ["a"]


def test_compressed_members_are_named():
    with pytest.raises(NotSplittable, match="'z' is compressed"):
        members(archive({"z": b"0" * 999}, compression=zipfile.ZIP_DEFLATED))


def test_encrypted_members_are_named():
    data = bytearray(archive({"z": b"0"}))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    with pytest.raises(NotSplittable, match="'z' is encrypted"):
        members(data)


def test_a_name_that_is_there_twice_is_refused():
    data = archive({"aa": b"1", "bb": b"2"}).replace(b"bb", b"aa")
    with pytest.raises(FormatError, match="'aa' exists twice"):
        members(data)


@pytest.mark.parametrize("cut", [1, 10, 22, 60])
def test_a_missing_end_is_noticed(cut):
    with pytest.raises(FormatError, match="truncated"):
        members(archive(ENTRIES)[:-cut])


def test_members_that_share_bytes_are_refused():
    data = bytearray(archive({"aa": b"1", "bb": b"2"}))
    second = data.rindex(b"PK\1\2")
    struct.pack_into("<L", data, second + 42, 0)
    with pytest.raises(FormatError, match="overlaps"):
        members(data)


CENTRAL = {"method": (10, 8), "crc": (16, 1), "packed size": (20, 3), "size": (24, 3), "flags": (8, 8)}


@pytest.mark.parametrize(("offset", "value"), CENTRAL.values(), ids=CENTRAL)
def test_a_directory_that_contradicts_the_local_header_is_refused(offset, value):
    data = bytearray(archive({"aa": b"1234"}))
    data[data.index(b"PK\1\2") + offset] ^= value
    with pytest.raises(FormatError, match="'aa'"):
        members(data)


def test_a_huge_size_is_refused_before_anything_is_allocated():
    data = bytearray(archive({"aa": b"1234"}))
    struct.pack_into("<2L", data, data.index(b"PK\1\2") + 20, 1 << 31, 1 << 31)
    with pytest.raises(FormatError, match="'aa' of 2147483648 bytes overlaps"):
        members(data)


def test_a_wrong_count_is_refused():
    data = bytearray(archive(ENTRIES))
    struct.pack_into("<2H", data, len(data) - 14, 9, 9)
    with pytest.raises(FormatError, match="announces 9 members and lists 3"):
        members(data)


def test_what_does_not_account_for_every_byte_is_not_split():
    data = archive(ENTRIES)
    with pytest.raises(NotSplittable, match="recorded"):
        members(b"prefix" + data)
    with pytest.raises(NotSplittable, match="recorded"):
        members(data + data)


@pytest.mark.parametrize("target", [io.BytesIO, _Unseekable], ids=["seekable", "streamed"])
@pytest.mark.parametrize("gap", ["before the first", "between two", "behind the last"])
def test_bytes_between_members_are_noticed(gap, target):
    """Insert bytes before a local header or the directory, and move all offsets by as much."""
    data = archive(ENTRIES, target())
    found = zipfile.ZipFile(io.BytesIO(data)).infolist()
    size, start = struct.unpack_from("<2L", data, len(data) - 10)
    at = {"before the first": 0, "between two": found[1].header_offset, "behind the last": start}[gap]
    moved = bytearray(data[:at] + b"gap" * 3 + data[at:])
    struct.pack_into("<2L", moved, len(moved) - 10, size, start + 9)
    entry = start + 9
    for info in found:
        offset = info.header_offset + 9 * (info.header_offset >= at)
        struct.pack_into("<L", moved, entry + 42, offset)
        entry += 46 + len(info.filename.encode()) + len(info.extra)
    assert [info.filename for info in zipfile.ZipFile(io.BytesIO(moved)).infolist()] == list(ENTRIES)
    with pytest.raises(NotSplittable, match="belong to no zip member"):
        members(bytes(moved))
    assert _zip.names(memoryview(bytes(moved)))


def test_two_archives_of_one_size_in_a_row_are_not_one():
    """The second one's end then points, by chance, at the first one's."""
    data = wide(ENTRIES)
    with pytest.raises(NotSplittable, match="belong to no zip member"):
        members(data + data)


def wide(entries):
    """Rewrite the end of an archive as a zip64 one."""
    data = archive(entries)
    count, size, start = struct.unpack_from("<H2L", data, len(data) - 12)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(data) - 22, 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:-22] + end64 + locator + end


def test_a_zip64_end_is_followed():
    data = wide(ENTRIES)
    assert {member.name: data[member.start : member.end] for member in members(data)} == ENTRIES


def test_zip64_sizes_of_a_member_are_followed():
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made, made.open("big", "w", force_zip64=True) as member:
        member.write(b"12345")
    data = bytearray(target.getvalue())
    (found,) = members(data)
    assert data[found.start : found.end] == b"12345"
    extra = data.index(b"big") + 3
    data[extra : extra + 2] = b"\x99\x99"
    with pytest.raises(FormatError, match="lacks its 64-bit sizes"):
        members(data)


def test_a_zip64_end_elsewhere_is_not_followed():
    data = bytearray(wide(ENTRIES))
    struct.pack_into("<Q", data, len(data) - 22 - 12, len(data))
    with pytest.raises(NotSplittable, match="zip64"):
        members(data)


def test_zip64_ends_that_differ_are_refused():
    data = bytearray(wide(ENTRIES))
    struct.pack_into("<2H", data, len(data) - 14, 2, 2)
    with pytest.raises(FormatError, match="contradict"):
        members(data)
