import contextlib
import itertools

from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.errors import ProtocolError
from git_theta_ext.protocol.sftp.answers import Data, Handle, Names, Status, read_answer, read_version
from git_theta_ext.protocol.sftp.packets import Attributes, Fields, Framer, Kind, string, u32

U32 = st.integers(0, (1 << 32) - 1)
ATTRIBUTES = st.builds(Attributes, st.none() | st.integers(0, (1 << 64) - 1), st.none() | U32, st.none() | U32)
ENTRIES = st.lists(st.tuples(st.binary(max_size=20), ATTRIBUTES), max_size=5).map(tuple)
ANSWERS = st.one_of(
    st.builds(Status, U32, st.text(max_size=20)),
    st.builds(Handle, st.binary(max_size=256)),
    st.builds(Data, st.binary(max_size=100)),
    st.builds(Names, ENTRIES),
    ATTRIBUTES,
)


def written(number, answer):
    """Return an answer as a server sends it."""
    if isinstance(answer, Status):
        kind, fields = Kind.STATUS, u32(answer.code) + string(answer.message.encode(errors="replace"))
    elif isinstance(answer, Handle):
        kind, fields = Kind.HANDLE, string(answer.value)
    elif isinstance(answer, Data):
        kind, fields = Kind.DATA, string(answer.value)
    elif isinstance(answer, Names):
        lines = (string(name) + string(b"long") + attributes.encode() for name, attributes in answer.entries)
        kind, fields = Kind.NAME, u32(len(answer.entries)) + b"".join(lines)
    else:
        kind, fields = Kind.ATTRS, answer.encode()
    packet = bytes([kind]) + u32(number) + fields
    return u32(len(packet)) + packet


@given(st.lists(st.tuples(U32, ANSWERS), max_size=8), st.lists(st.integers(0, 2000), max_size=20))
def test_answers_survive_however_the_stream_is_cut(answers, places):
    stream = b"".join(written(number, answer) for number, answer in answers)
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    framer = Framer()
    packets = [packet for a, b in itertools.pairwise(edges) for packet in framer.feed(stream[a:b])]
    assert [read_answer(packet) for packet in packets] == answers
    assert framer.idle


@given(ATTRIBUTES)
def test_attributes_survive(attributes):
    fields = Fields(attributes.encode())
    assert fields.attributes() == attributes
    fields.end()


@given(st.binary(max_size=300))
def test_noise_raises_nothing_but_a_protocol_error(noise):
    for read in (read_answer, read_version, lambda data: [read_answer(packet) for packet in Framer().feed(data)]):
        with contextlib.suppress(ProtocolError):
            read(noise)
