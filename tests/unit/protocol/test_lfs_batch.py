import json

import pytest

from git_theta_ext.errors import ProtocolError
from git_theta_ext.protocol.lfs.batch import (
    MAX_ANSWER,
    batch_request,
    error_message,
    read_authentication,
    read_batch,
    verify_request,
)
from git_theta_ext.protocol.lfs.multipart import completion, parts_of
from git_theta_ext.protocol.lfs.pointer import Pointer, parse_pointer

POINTER = Pointer("ab" * 32, 1000)
HREF = "https://store.example/objects/ab?sig=x"


def answer(**item):
    return json.dumps({"objects": [{"oid": POINTER.oid, "size": 1000, **item}]}).encode()


def read(data, operation="download", now=100.0):
    return read_batch(data, operation, [POINTER], now)[POINTER.oid]


def test_requests_have_what_the_protocol_wants():
    body = json.loads(batch_request("upload", [POINTER]))
    assert body == {
        "operation": "upload",
        "transfers": ["basic", "multipart"],
        "objects": [{"oid": POINTER.oid, "size": 1000}],
        "hash_algo": "sha256",
    }
    assert json.loads(batch_request("download", [POINTER]))["transfers"] == ["basic"]
    assert json.loads(verify_request(POINTER)) == {"oid": POINTER.oid, "size": 1000}


def test_an_action_has_its_address_its_headers_and_its_end():
    action = {"href": HREF, "header": {"Authorization": "Bearer x", "X-Number": 3}, "expires_in": 60}
    found = read(answer(actions={"download": action}))
    assert found.action.href == HREF
    assert dict(found.action.header) == {"Authorization": "Bearer x", "X-Number": "3"}
    assert found.action.expires == 160
    assert found.error is None


def test_headers_that_frame_a_request_are_left_out():
    header = {"Transfer-Encoding": "chunked", "content-length": "5", "Host": "elsewhere", "X": "y"}
    assert dict(read(answer(actions={"download": {"href": HREF, "header": header}})).action.header) == {"X": "y"}


@pytest.mark.parametrize(
    ("action", "expires"),
    [
        ({"expires_in": 60, "expires_at": "2001-01-01T00:00:00Z"}, 160),
        ({"expires_at": "1970-01-01T00:10:00Z"}, 600),
        ({"expires_at": "1970-01-01T01:10:00.123456789+01:00"}, 600.123456),
        ({"expires_at": "0001-01-01T00:00:00Z"}, None),
        ({"expires_at": "soon"}, None),
        ({"expires_in": 0}, None),
        ({"expires_in": -5}, None),
        ({"expires_in": True}, None),
        ({}, None),
    ],
)
def test_the_end_of_an_action_counts_from_the_answer(action, expires):
    assert read(answer(actions={"download": {"href": HREF, **action}})).action.expires == pytest.approx(expires)


def test_an_upload_without_actions_is_there_already():
    assert read(answer(), "upload").action is None
    assert read(answer(actions={}), "upload").action is None
    both = {"upload": {"href": HREF}, "verify": {"href": f"{HREF}/verify"}}
    assert read(answer(actions=both), "upload").verify.href == f"{HREF}/verify"


def test_an_error_of_an_object_is_kept():
    found = read(answer(error={"code": 404, "message": "no\n such object"}))
    assert (found.error.code, found.error.message) == (404, "no such object")
    assert read(answer(error={"message": 3})).error.code == 0
    assert read(answer(error="text")).error.message == "no reason given"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"<html>",
        b"\xff",
        b"[" * 100_000,
        b"{}",
        b'{"objects": {}}',
        b'{"objects": []}',
        b'{"objects": [3]}',
        b'{"transfer": "tus", "objects": []}',
        b'{"transfer": [], "objects": []}',
        answer(),
        answer(actions=[1]),
        answer(actions={"download": 3}),
        answer(actions={"download": {}}),
        answer(actions={"download": {"href": HREF, "header": [1]}}),
        *(
            answer(actions={"download": {"href": href}})
            for href in (
                3,
                "ftp://x/y",
                "file:///etc/passwd",
                "//x/y",
                "https://",
                "https://x y/",
                "http://x:0/",
                "x" * 70_000,
            )
        ),
        *(
            answer(actions={"download": {"href": HREF, "header": header}})
            for header in ({"X": "a\r\nY: b"}, {"X\r\n": "a"}, {"": "a"}, {"X": None}, {"X": ["a"]}, {"X": "\u20ac"})
        ),
    ],
)
def test_answers_that_break_the_protocol_are_refused(data):
    with pytest.raises(ProtocolError):
        read(data)


def test_an_answer_that_is_too_large_is_not_parsed():
    with pytest.raises(ProtocolError, match="limit"):
        read(b" " * (MAX_ANSWER + 1))


def test_messages_of_errors_are_one_short_line():
    assert error_message(b'{"message": "a\\nb"}') == "a b"
    assert len(error_message(json.dumps({"message": "x" * 1000}).encode())) == 300
    assert error_message(b"<html>") == error_message(b'{"message": 3}') == ""


def test_git_lfs_authenticate_prints_an_action():
    found = read_authentication(b'{"href": "https://h/lfs", "header": {"A": "b"}, "expires_in": 5}', "https://d", 1)
    assert (found.href, dict(found.header), found.expires) == ("https://h/lfs", {"A": "b"}, 6)
    assert read_authentication(b"{}", "https://d", 1).href == "https://d"
    with pytest.raises(ProtocolError):
        read_authentication(b"Welcome!", "https://d", 1)


def action_of(**header):
    return read(answer(actions={"upload": {"href": HREF, "header": header}}), "upload").action


def test_parts_cover_an_object():
    parts = parts_of(
        action_of(chunk_size="400", **{"1": "https://s/1", "2": "https://s/2", "3": "https://s/3"}), POINTER
    )
    assert [(part.href, part.start, part.end) for part in parts] == [
        ("https://s/1", 0, 400),
        ("https://s/2", 400, 800),
        ("https://s/3", 800, 1000),
    ]
    assert json.loads(completion(POINTER, ["a", "b", "c"]))["parts"][2] == {"partNumber": 3, "etag": "c"}
    with pytest.raises(ProtocolError, match="part 2"):
        completion(POINTER, ["a", None])


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"chunk_size": "0", "1": "https://s/1"},
        {"chunk_size": "x"},
        {"chunk_size": "1000"},
        {"chunk_size": "400", "1": "https://s/1", "2": "https://s/2"},
        {"chunk_size": "1000", "1": "https://s/1", "2": "https://s/2"},
        {"chunk_size": "1000", "1": "file:///x"},
        {"chunk_size": "1" * 30, "1": "https://s/1"},
    ],
)
def test_parts_that_are_not_those_of_the_object_are_refused(header):
    with pytest.raises(ProtocolError):
        parts_of(action_of(**header), POINTER)


def test_pointers_are_canonical():
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 1000\n".encode()
    assert POINTER.text() == text
    assert parse_pointer(text) == POINTER
    for wrong in (text[:-1], text + b"\n", text.replace(b"1000", b"01"), text.replace(b"ab", b"AB"), b"", text * 20):
        assert parse_pointer(wrong) is None
    assert parse_pointer(text.replace(b"1000", b"9" * 19)) is None
