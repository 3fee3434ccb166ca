"""The locking API: requests, and answers of servers that are wrong or hostile."""

from __future__ import annotations

import json

import pytest

from git_theta_ext.errors import ProtocolError
from git_theta_ext.protocol.lfs.locks import (
    MAX_PAGE,
    FileLock,
    Page,
    all_pages,
    list_place,
    lock_request,
    read_lock,
    read_page,
    unlock_place,
    unlock_request,
    verify_request,
)

ANSWER = {"id": "7", "path": "a/b.pt", "locked_at": "2026-11-29T10:00:00Z", "owner": {"name": "Ada"}}
LOCK = FileLock("7", "a/b.pt", "Ada", "2026-11-29T10:00:00Z")


def test_requests_have_what_git_lfs_sends():
    main = {"ref": {"name": "refs/heads/main"}}
    assert json.loads(lock_request("a.pt", "refs/heads/main")) == {"path": "a.pt", **main}
    assert json.loads(lock_request("a.pt", None)) == {"path": "a.pt"}
    assert json.loads(unlock_request("refs/heads/main", force=True)) == {"force": True, **main}
    assert json.loads(verify_request("c", None)) == {"cursor": "c", "limit": 100}
    assert unlock_place("a/../b?") == "locks/a%2F..%2Fb%3F/unlock"
    place = list_place("x&y", "refs/heads/main", path="a b.pt", name=None, limit=3)
    assert place == "locks?path=a%20b.pt&cursor=x%26y&limit=3&refspec=refs%2Fheads%2Fmain"
    assert list_place(None, None, path=None, name="7", limit=None) == "locks?id=7&limit=100"


def test_answers_are_read():
    assert read_lock(json.dumps({"lock": ANSWER, "message": "already"}).encode()) == LOCK
    listed = json.dumps({"locks": [ANSWER], "next_cursor": "n"}).encode()
    assert read_page(listed, verified=False) == Page((LOCK,), (), "n")
    sides = json.dumps({"ours": [], "theirs": [ANSWER], "next_cursor": ""}).encode()
    assert read_page(sides, verified=True) == Page((), (LOCK,), None)
    assert read_page(b'{"ours": null}', verified=True) == Page(())


def test_texts_for_people_are_short_and_on_one_line():
    odd = {"id": 7, "path": "a\nb", "owner": {"name": "x\r\n" * 300}, "locked_at": None}
    lock = read_lock(json.dumps({"lock": odd}).encode())
    assert (lock.id, lock.path, lock.locked_at) == ("7", "a\nb", "")
    assert len(lock.owner) <= 200
    assert "\n" not in lock.owner
    assert read_lock(json.dumps({"lock": {"id": "1", "path": "p"}}).encode()).owner == ""


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": True},
        {"id": ""},
        {"path": 3},
        {"path": ""},
        {"path": "a\0b"},
        {"path": "\ud800"},
        {"path": "x" * 5000},
        {"owner": "Ada"},
        {"owner": {"name": ["Ada"]}},
        {"locked_at": 5},
    ],
)
def test_a_lock_that_is_none_is_refused(change):
    with pytest.raises(ProtocolError):
        read_lock(json.dumps({"lock": {**ANSWER, **change}}).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"[]",
        b"[" * 100_000,
        b'{"locks": {}}',
        b'{"locks": [3]}',
        b'{"locks": [], "next_cursor": 3}',
        b'{"locks": [], "next_cursor": "' + b"x" * 5000 + b'"}',
        b" " * MAX_PAGE + b"{}",
    ],
)
def test_a_page_that_is_none_is_refused(data):
    with pytest.raises(ProtocolError):
        read_page(data, verified=False)


def test_pages_follow_each_other():
    rest = {"1": Page((LOCK,), (), "2"), "2": Page((LOCK,))}
    assert len(list(all_pages(Page((), (LOCK,), "1"), rest.__getitem__))) == 3


def test_a_list_that_does_not_end_is_refused():
    with pytest.raises(ProtocolError, match="does not end"):
        list(all_pages(Page((), (), "1"), lambda _: Page((), (), "1")))
    with pytest.raises(ProtocolError, match="does not end"):
        list(all_pages(Page((), (), "0"), lambda cursor: Page((), (), cursor + "0")))
    many = Page((LOCK,) * 2000, (LOCK,) * 2000)
    with pytest.raises(ProtocolError, match="does not end"):
        list(all_pages(Page((), (), "0"), lambda cursor: Page(many.locks, many.theirs, cursor + "0")))
