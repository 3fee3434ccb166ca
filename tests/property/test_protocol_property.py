import contextlib
import itertools

from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.errors import ProtocolError
from git_theta_ext.protocol.filter import Connection, Content, EndOfContent, Request
from git_theta_ext.protocol.pktline import FLUSH, Decoder, Flush, encode, encode_content, encode_list

HANDSHAKE = (
    encode_list([b"git-filter-client", b"version=2"]),
    encode_list([b"capability=clean", b"capability=smudge"]),
)


def cut(data, places):
    edges = [0, *sorted({place % (len(data) + 1) for place in places} - {0, len(data)}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


def ready():
    connection = Connection()
    connection.receive(HANDSHAKE[0])
    connection.send_welcome()
    connection.receive(HANDSHAKE[1])
    connection.send_capabilities()
    return connection


@given(st.lists(st.none() | st.binary(max_size=40), max_size=20), st.lists(st.integers(0, 1000), max_size=30))
def test_packets_survive_however_the_stream_is_cut(payloads, places):
    stream = b"".join(FLUSH if payload is None else encode(payload) for payload in payloads)
    decoder, seen, begun = Decoder(), [], b""
    for part in cut(stream, places):
        for packet in decoder.feed(part):
            if isinstance(packet, Flush):
                seen.append(None)
                continue
            begun += packet.data
            if packet.last:
                seen.append(begun)
                begun = b""
    assert seen == payloads
    assert decoder.idle


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
    st.binary(max_size=200_000),
    st.lists(st.integers(0, 300_000), max_size=8),
)
def test_a_request_survives_however_the_stream_is_cut(pathname, content, places):
    stream = encode_list([b"command=clean", b"pathname=" + pathname.encode()]) + encode_content(content)
    connection = ready()
    events = [event for part in cut(stream, places) for event in connection.receive(part)]
    assert events[0] == Request("clean", pathname)
    assert b"".join(event.data for event in events[1:-1] if isinstance(event, Content)) == content
    assert events[-1] == EndOfContent()


@given(st.binary(), st.booleans())
def test_noise_raises_nothing_but_a_protocol_error(noise, after_the_handshake):
    connection = ready() if after_the_handshake else Connection()
    with contextlib.suppress(ProtocolError):
        connection.receive(noise)
        connection.receive(b"")


@given(st.lists(st.sampled_from([*HANDSHAKE, b"0000", b"0004", encode(b"command=clean\n"), encode(b"pathname=a\n")])))
def test_messages_in_any_order_raise_nothing_but_a_protocol_error(messages):
    connection = Connection()
    with contextlib.suppress(ProtocolError):
        for message in messages:
            connection.receive(message)
