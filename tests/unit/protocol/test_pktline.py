import pytest

from git_theta_ext.errors import ProtocolError
from git_theta_ext.protocol.pktline import (
    FLUSH,
    MAX_PAYLOAD,
    Decoder,
    Flush,
    PayloadPart,
    encode,
    encode_content,
    encode_list,
)


def joined(packets):
    return [packet if isinstance(packet, Flush) else (bytes(packet.data), packet.last) for packet in packets]


def test_a_packet_has_its_length_in_front():
    assert encode(b"hi\n") == b"0007hi\n"


def test_a_list_ends_with_a_flush_and_each_line_with_a_newline():
    assert encode_list([b"a", b"bc"]) == b"0006a\n0007bc\n0000"


def test_content_is_cut_at_the_largest_payload():
    content = bytes(MAX_PAYLOAD) + b"x"
    assert encode_content(content) == b"fff0" + bytes(MAX_PAYLOAD) + b"0005x0000"
    assert encode_content(b"") == FLUSH


def test_too_long_a_payload_is_refused():
    with pytest.raises(ProtocolError, match="65517"):
        encode(bytes(MAX_PAYLOAD + 1))


def test_payloads_point_into_the_buffer():
    buffer = bytearray(b"0008abcd0000")
    (piece, flush) = Decoder().feed(buffer)
    buffer[4:8] = b"wxyz"
    assert bytes(piece.data) == b"wxyz"
    assert flush == Flush()


def test_a_payload_across_two_buffers_comes_in_two_pieces():
    decoder = Decoder()
    assert joined(decoder.feed(b"00")) == []
    assert joined(decoder.feed(b"08ab")) == [(b"ab", False)]
    assert not decoder.idle
    assert joined(decoder.feed(b"cd0000")) == [(b"cd", True), Flush()]
    assert decoder.idle


def test_an_empty_payload_is_no_flush():
    assert Decoder().feed(b"0004") == [PayloadPart(memoryview(b""), last=True)]


def test_lengths_may_be_in_capitals():
    assert joined(Decoder().feed(b"000A123456")) == [(b"123456", True)]


@pytest.mark.parametrize(
    "header", [b"0001", b"0002", b"0003", b"fff1", b"ffff", b"+008", b" 008", b"0_08", b"00\n8", b"zzzz"]
)
def test_what_is_no_length_is_refused(header):
    with pytest.raises(ProtocolError, match="length"):
        Decoder().feed(header + b"abcd")
