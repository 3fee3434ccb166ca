import pytest

from git_theta_ext.errors import ProtocolError
from git_theta_ext.protocol.sftp import requests
from git_theta_ext.protocol.sftp.answers import (
    Data,
    Handle,
    Limits,
    Names,
    Status,
    read_answer,
    read_free_space,
    read_limits,
    read_version,
)
from git_theta_ext.protocol.sftp.packets import MAX_PACKET, Attributes, Code, Fields, Framer, Kind, string, u32, u64


def joined(request, number=7):
    return b"".join(request.packet(number))


def test_the_first_bytes_of_a_client_are_those_of_the_standard():
    assert bytes([0, 0, 0, 5, 1, 0, 0, 0, 3]) == requests.HELLO


def test_a_request_has_its_length_kind_and_number_in_front():
    assert joined(requests.close(b"h")) == bytes([0, 0, 0, 10, 4, 0, 0, 0, 7, 0, 0, 0, 1]) + b"h"


def test_content_to_write_is_not_copied():
    content = memoryview(bytearray(b"content"))
    head, tail = requests.write(b"h", 1 << 40, content).packet(1)
    assert tail.obj is content.obj
    assert int.from_bytes(head[:4], "big") == len(head) - 4 + len(tail)
    assert head.endswith(u64(1 << 40) + u32(7))


@pytest.mark.parametrize(
    ("request_", "kind", "fields"),
    [
        (requests.open_to_read(b"p"), 3, string(b"p") + u32(1) + u32(0)),
        (requests.open_new(b"p", 0o644), 3, string(b"p") + u32(0x2A) + u32(4) + u32(0o644)),
        (requests.read(b"h", 5, 9), 5, string(b"h") + u64(5) + u32(9)),
        (requests.status_of(b"p"), 7, string(b"p")),
        (requests.change(b"p", Attributes(mtime=9)), 9, string(b"p") + u32(8) + u32(9) + u32(9)),
        (requests.change_open(b"h", Attributes(mode=1)), 10, string(b"h") + u32(4) + u32(1)),
        (requests.open_directory(b"p"), 11, string(b"p")),
        (requests.read_directory(b"h"), 12, string(b"h")),
        (requests.remove(b"p"), 13, string(b"p")),
        (requests.make_directory(b"p", 0o755), 14, string(b"p") + u32(4) + u32(0o755)),
        (requests.rename(b"p", b"q"), 18, string(b"p") + string(b"q")),
        (requests.hard_link(b"p", b"q"), 200, string(b"hardlink@openssh.com") + string(b"p") + string(b"q")),
        (requests.sync(b"h"), 200, string(b"fsync@openssh.com") + string(b"h")),
        (requests.limits(), 200, string(b"limits@openssh.com")),
        (requests.free_space(b"p"), 200, string(b"statvfs@openssh.com") + string(b"p")),
    ],
)
def test_requests_have_the_fields_of_the_standard(request_, kind, fields):
    assert joined(request_) == u32(5 + len(fields)) + bytes([kind]) + u32(7) + fields


def test_a_server_introduces_itself_and_its_extensions():
    packet = bytes([2]) + u32(3) + string(b"a@b") + string(b"1") + string(b"c") + string(b"")
    assert read_version(packet) == {b"a@b": b"1", b"c": b""}


@pytest.mark.parametrize("packet", [bytes([2]) + u32(6), bytes([101]) + u32(3), bytes([2]) + u32(3) + b"\0", b"\2"])
def test_another_version_or_beginning_is_refused(packet):
    with pytest.raises(ProtocolError):
        read_version(packet)


@pytest.mark.parametrize(
    ("kind", "fields", "answer"),
    [
        (Kind.STATUS, u32(4) + string(b"Failure") + string(b"en"), Status(Code.FAILURE, "Failure")),
        (Kind.STATUS, u32(99) + string(b"\xff"), Status(99, "\ufffd")),
        (Kind.STATUS, u32(1), Status(Code.END_OF_FILE, "")),
        (Kind.HANDLE, string(b"\0h"), Handle(b"\0h")),
        (Kind.DATA, string(b"data"), Data(b"data")),
        (Kind.EXTENDED_REPLY, b"anything", Data(b"anything")),
        (Kind.ATTRS, u32(0), Attributes()),
        (Kind.ATTRS, u32(15) + u64(9) + u32(1) + u32(2) + u32(0o644) + u32(5) + u32(6), Attributes(9, 0o644, 6)),
        (Kind.ATTRS, u32(0x80000001) + u64(9) + u32(1) + string(b"a") + string(b"b"), Attributes(9)),
        (Kind.NAME, u32(0), Names(())),
        (
            Kind.NAME,
            u32(2) + string(b"a") + string(b"-rw-") + u32(1) + u64(9) + string(b"b/c") + string(b"") + u32(0),
            Names(((b"a", Attributes(9)), (b"b/c", Attributes()))),
        ),
    ],
)
def test_answers_are_read(kind, fields, answer):
    assert read_answer(bytes([kind]) + u32(5) + fields) == (5, answer)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Kind.HANDLE, string(b"h" * 257)),
        (Kind.HANDLE, string(b"h") + b"more"),
        (Kind.HANDLE, u32(1 << 31) + b"h"),
        (Kind.DATA, u32(5) + b"data"),
        (Kind.NAME, u32(0xFFFFFFFF)),
        (Kind.NAME, u32(1) + string(b"a") + string(b"")),
        (Kind.ATTRS, u32(0x10)),
        (Kind.ATTRS, u32(0x80000000) + u32(0xFFFFFFFF)),
        (Kind.ATTRS, u32(1) + b"\0"),
        (Kind.OPEN, string(b"p")),
        (Kind.VERSION, u32(3)),
        (99, b""),
    ],
)
def test_lying_lengths_and_other_packets_are_refused(kind, fields):
    with pytest.raises(ProtocolError):
        read_answer(bytes([kind]) + u32(5) + fields)


@pytest.mark.parametrize("length", [0, MAX_PACKET + 1, 0xFFFFFFFF, int.from_bytes(b"Welc", "big")])
def test_a_length_out_of_bounds_is_refused_before_the_packet_comes(length):
    with pytest.raises(ProtocolError, match="not an SFTP packet"):
        Framer().feed(u32(length))


def test_limits_and_free_space_are_read():
    assert read_limits(Data(u64(4) + u64(3) + u64(2) + u64(1))) == Limits(4, 3, 2)
    assert read_free_space(Data(b"".join(map(u64, (512, 4096, 9, 8, 7, 0, 0, 0, 0, 0, 255))))) == 7 * 4096
    for read in (read_limits, read_free_space):
        with pytest.raises(ProtocolError):
            read(Data(b"short"))


def test_reading_behind_the_end_is_refused():
    fields = Fields(b"\0\0\0\1x")
    assert fields.string() == b"x"
    with pytest.raises(ProtocolError):
        fields.u8()
