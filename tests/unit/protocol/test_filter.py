import pytest

from git_theta_ext.errors import ProtocolError
from git_theta_ext.protocol import filter as filter_protocol
from git_theta_ext.protocol.filter import (
    Capabilities,
    Connection,
    Content,
    EndOfContent,
    EndOfInput,
    Request,
    Welcome,
)
from git_theta_ext.protocol.pktline import encode, encode_content, encode_list

HELLO = encode_list([b"git-filter-client", b"version=2"])
CAPABILITIES = encode_list([b"capability=clean", b"capability=smudge", b"capability=delay"])


def request(*lines, content=b""):
    return encode_list(lines) + encode_content(content)


@pytest.fixture
def connection():
    connection = Connection()
    connection.receive(HELLO)
    connection.send_welcome()
    connection.receive(CAPABILITIES)
    connection.send_capabilities()
    return connection


def test_the_handshake_is_what_git_expects():
    connection = Connection()
    assert connection.receive(HELLO) == [Welcome()]
    assert connection.send_welcome() == b"0016git-filter-server\n000eversion=2\n0000"
    assert connection.receive(CAPABILITIES) == [Capabilities(frozenset({"clean", "smudge", "delay"}))]
    assert connection.send_capabilities() == b"0015capability=clean\n0016capability=smudge\n0000"


def test_a_request_comes_with_its_content(connection):
    data = request(b"command=clean", b"pathname=a/b.pt", content=b"x" * 70000)
    first, *pieces, last = connection.receive(data)
    assert first == Request("clean", "a/b.pt")
    assert b"".join(bytes(piece.data) for piece in pieces) == b"x" * 70000
    assert all(isinstance(piece, Content) for piece in pieces)
    assert last == EndOfContent()


def test_success_sends_the_content_and_an_empty_list(connection):
    connection.receive(request(b"command=smudge", b"pathname=m"))
    assert connection.send_success(b"new") == b"0013status=success\n00000007new00000000"


def test_an_error_sends_a_status_and_no_content(connection):
    connection.receive(request(b"command=smudge", b"pathname=m"))
    assert connection.send_error() == b"0011status=error\n0000"


def test_git_may_ask_again_after_success_and_after_an_error(connection):
    for answer in (connection.send_error, lambda: connection.send_success(b"")):
        events = connection.receive(request(b"command=clean", b"pathname=m"))
        assert events == [Request("clean", "m"), EndOfContent()]
        answer()


def test_what_git_knows_of_a_blob_is_passed_on_and_can_delay_is_not(connection):
    lines = [b"command=smudge", b"pathname=m", b"ref=refs/heads/x", b"treeish=12", b"blob=34", b"can-delay=1"]
    (event, _) = connection.receive(request(*lines))
    assert event.metadata == {"ref": "refs/heads/x", "treeish": "12", "blob": "34"}


@pytest.mark.parametrize(
    ("raw", "pathname"),
    [
        (b"a=b=c.pt", "a=b=c.pt"),
        (b"line\nbreak.pt\n", "line\nbreak.pt\n"),
        ("модель.pt".encode(), "модель.pt"),
        (b"\xff.pt", "\udcff.pt"),
    ],
)
def test_odd_pathnames_survive(connection, raw, pathname):
    (event, _) = connection.receive(request(b"command=clean", b"pathname=" + raw))
    assert event.pathname == pathname
    assert event.pathname.encode("utf-8", "surrogateescape") == raw


def test_an_unknown_command_can_be_answered_with_an_error(connection):
    (event, *_) = connection.receive(request(b"command=polish", b"pathname=m", content=b"x"))
    assert event.command == "polish"
    assert connection.send_error()


def test_git_may_close_between_requests(connection):
    assert connection.receive(b"") == [EndOfInput()]


@pytest.mark.parametrize(
    "begun",
    [b"00", encode(b"command=clean\n"), encode(b"command=clean\n")[:-3], request(b"command=clean", b"pathname=m")[:-4]],
)
def test_git_may_not_close_in_the_middle(connection, begun):
    connection.receive(begun)
    with pytest.raises(ProtocolError, match="within a message"):
        connection.receive(b"")


def test_git_may_not_close_before_it_has_its_answer(connection):
    connection.receive(request(b"command=clean", b"pathname=m"))
    with pytest.raises(ProtocolError, match="within a message"):
        connection.receive(b"")


def test_more_before_the_answer_is_refused(connection):
    asked = request(b"command=clean", b"pathname=m")
    with pytest.raises(ProtocolError, match="before it received the response"):
        connection.receive(asked + asked)


def test_an_answer_before_the_content_ended_is_refused(connection):
    connection.receive(encode_list([b"command=clean", b"pathname=m"]))
    with pytest.raises(ProtocolError, match="cannot send this response"):
        connection.send_success(b"")


def test_only_one_answer_is_allowed(connection):
    connection.receive(request(b"command=clean", b"pathname=m"))
    connection.send_error()
    with pytest.raises(ProtocolError, match="cannot send this response"):
        connection.send_error()


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([b"command=clean"], "without command or pathname"),
        ([b"pathname=m"], "without command or pathname"),
        ([b"command=clean", b"pathname="], "without command or pathname"),
        ([b"command=clean", b"pathname=m", b"pathname=n"], "duplicate key"),
        ([b"command=clean", b"pathname"], "expected key=value"),
        ([], "without command or pathname"),
    ],
)
def test_a_broken_request_is_refused(connection, lines, complaint):
    with pytest.raises(ProtocolError, match=complaint):
        connection.receive(encode_list(lines))


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([b"git-lfs", b"version=2"], "expected 'git-filter-client', received 'git-lfs'"),
        ([], "received nothing"),
        ([b"git-filter-client", b"version=3"], "version 2"),
    ],
)
def test_another_client_or_version_is_refused(lines, complaint):
    with pytest.raises(ProtocolError, match=complaint):
        Connection().receive(encode_list(lines))


def test_a_git_that_cannot_smudge_is_refused():
    connection = Connection()
    connection.receive(HELLO)
    connection.send_welcome()
    with pytest.raises(ProtocolError, match="clean"):
        connection.receive(encode_list([b"capability=clean"]))


def test_a_list_without_end_is_refused(connection):
    with pytest.raises(ProtocolError, match="a list from git exceeds"):
        connection.receive(encode(b"x" * 65000) * 17)


def test_a_list_of_empty_packets_without_end_is_refused(connection, monkeypatch):
    monkeypatch.setattr(filter_protocol, "_MAX_LIST", 1 << 12)
    connection.receive(b"0004" * (1 << 12))
    with pytest.raises(ProtocolError, match="exceeds the limit of 4096 bytes"):
        connection.receive(b"0004")
