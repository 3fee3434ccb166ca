from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.protocol.lfs.endpoints import (
    instead_of,
    is_http,
    lfs_url,
    match_length,
    same_origin,
    ssh_address,
    without_user,
)
from git_theta_ext.protocol.lfs.ranges import Continuation, continuation, range_header
from git_theta_ext.protocol.lfs.retry import Verdict, backoff, judge, retry_after


@pytest.mark.parametrize(
    ("status", "content_range", "start", "expected"),
    [
        (200, None, 0, Continuation.REST),
        (200, None, 10, Continuation.WHOLE),
        (206, "bytes 10-99/100", 10, Continuation.REST),
        (206, "bytes 10-99/*", 10, Continuation.REST),
        (206, "bytes 10-89/90", 10, Continuation.WRONG),
        (206, "bytes 5-99/100", 10, Continuation.START_OVER),
        (206, None, 10, Continuation.START_OVER),
        (206, "lines 1-2/3", 10, Continuation.START_OVER),
        (206, None, 0, Continuation.WRONG),
        (416, None, 10, Continuation.START_OVER),
        (204, None, 0, Continuation.WRONG),
    ],
)
def test_a_download_continues_only_after_a_fitting_range(status, content_range, start, expected):
    assert continuation(status, content_range, start, 100) is expected


def test_ranges_end_with_the_last_byte():
    assert range_header(0) is None
    assert range_header(5) == "bytes=5-"
    assert range_header(0, 10) == "bytes=0-9"


def test_verdicts_follow_the_status():
    assert {judge(status) for status in (200, 201, 204)} == {Verdict.DONE}
    assert {judge(status) for status in (408, 429, 500, 502, 503, 504)} == {Verdict.AGAIN}
    assert {judge(status) for status in (401, 403)} == {Verdict.EXPIRED}
    assert {judge(status) for status in (100, 302, 400, 404, 413, 422, 501, 507, 509)} == {Verdict.REFUSED}


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_waits_grow_and_are_limited(number, jitter):
    assert 0.1 < backoff(number, jitter) <= 10
    assert backoff(number, jitter) <= backoff(number + 1, jitter)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5),
        (" 0 ", 0),
        (formatdate(1060, usegmt=True), 60),
        (formatdate(900, usegmt=True), 0),
        ("-5", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("1" * 200, None),
        ("Mon, 99 Foo 2020 00:00:00 GMT", None),
    ],
)
def test_servers_ask_to_wait_in_seconds_or_until_a_date(value, seconds):
    assert retry_after(value, 1000) == seconds


@given(st.text(max_size=40))
def test_no_text_breaks_the_reading_of_a_wait(text):
    wait = retry_after(text, 0)
    assert wait is None or wait >= 0


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://host/a/b.git", "https://host/a/b.git/info/lfs"),
        ("https://host/a/b", "https://host/a/b.git/info/lfs"),
        ("https://host/a/b/", "https://host/a/b.git/info/lfs"),
        ("https://me@host:8443/a.git", "https://me@host:8443/a.git/info/lfs"),
        ("ssh://git@host:2222/a/b.git", "https://host/a/b.git/info/lfs"),
        ("git@host:a/b.git", "https://host/a/b.git/info/lfs"),
        ("host:/a/b", "https://host/a/b.git/info/lfs"),
        ("ssh://git@[::1]/a.git", "https://[::1]/a.git/info/lfs"),
        ("git://host/a", None),
        ("/a/b", None),
        ("./a:b", None),
        ("https://", None),
        ("https://host:99999/", None),
    ],
)
def test_the_server_follows_from_the_address(address, expected):
    assert lfs_url(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        "-oProxyCommand=x:a",
        "git@-oProxyCommand=x:a",
        "ssh://-oProxyCommand=x/a",
        "ssh://git@-oProxyCommand=x/a",
        "ssh://-git@host/a",
        "$(word):a",
        "host:-a",
        "ssh://host:x/a",
        "a",
    ],
)
def test_addresses_that_ssh_takes_for_options_are_none(address):
    assert ssh_address(address) is None


def test_parts_of_ssh_addresses():
    address = ssh_address("ssh://me@host:22/a%20b")
    assert (address.destination, address.port, address.path) == ("me@host", 22, "/a b")
    assert ssh_address("[::1]:a").host == "::1"


def test_the_longest_prefix_is_replaced():
    rules = [("https://a/", "gh:"), ("https://b/", "gh:team/"), ("https://c/", "")]
    assert instead_of("gh:team/x", rules) == "https://b/x"
    assert instead_of("gh:x", rules) == "https://a/x"
    assert instead_of("other", rules) == "other"


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("https://host", True),
        ("https://host/", True),
        ("https://host:443/a", True),
        ("https://*.example/", False),
        ("https://host/a/b.git", True),
        ("https://host/a/b", False),
        ("http://host/", False),
        ("https://host:444/", False),
        ("https://you@host/", False),
        ("https://me@host/", True),
        ("https://host:x/", False),
    ],
)
def test_settings_apply_to_a_url_by_its_first_components(pattern, fits):
    assert (match_length(pattern, "https://me@host/a/b.git") is not None) == fits


def test_settings_for_the_longest_path_count_most():
    url = "https://git.host.example/a/b"
    patterns = ["https://*.host.example", "https://git.host.example", "https://git.host.example/a"]
    lengths = [match_length(pattern, url) for pattern in patterns]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) == 3


def test_origins_have_ports():
    assert same_origin("https://host/a", "https://host:443/b")
    assert not same_origin("https://host/", "http://host/")
    assert not same_origin("https://host/", "https://host.example/")
    assert without_user("https://me:secret@host:1/a?b") == "https://host:1/a?b"


@given(st.text(max_size=60))
def test_no_text_breaks_the_reading_of_addresses(text):
    assert lfs_url(text) is None or is_http(lfs_url(text))
    match_length(text, "https://host/")
