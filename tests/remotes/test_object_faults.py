"""Servers that fail: an S3 server in this process does what each test tells it."""

import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

import pytest
from obstore.exceptions import GenericError
from servers import ID, SECRET, context, served

from git_theta_ext.errors import ConfigError, CorruptError, MissingError, RemoteError, RemoteTimeoutError
from git_theta_plugins.remotes import _object_errors, _objects, _requests
from git_theta_plugins.remotes.object_store import open_remote

NAME = "ab" * 32
KEY = f"packs/ab/{NAME}"
CONTENT = bytes(range(256)) * 800  # more than the buffers of a connection
LISTING = "<ListBucketResult>{}<KeyCount>1</KeyCount></ListBucketResult>"
ENTRY = (
    "<Contents><Key>{}</Key><Size>3</Size><LastModified>2026-01-01T00:00:00Z</LastModified><ETag>x</ETag></Contents>"
)


class Server:
    """What a server has, what it was asked, and what it answers instead of the right thing."""

    def __init__(self):
        self.objects = {}
        self.asked = []
        self.instead = []

    def next_fault(self, request):
        """Return what to do instead; a fault is used once, unless it is the last one."""
        for fault in self.instead:
            if re.search(fault[0], f"{request.command} {request.path}"):
                if len(self.instead) > 1:
                    self.instead.remove(fault)
                return fault[1]
        return None


class S3(BaseHTTPRequestHandler):
    state: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", cut=None, **headers):
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), "ETag": '"x"', **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True

    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.state.asked.append((self.command, self.path, self.headers.get("Range")))
        fault = self.state.next_fault(self)
        if fault is not None and (fault := fault(self)) is not self:
            return
        name = self.path.removeprefix("/models/x/")
        if self.command == "PUT":
            taken = self.headers.get("If-None-Match") and name in self.state.objects
            self.state.objects.setdefault(name, body)
            self.answer(412 if taken else 200)
        elif "?list-type=2" in self.path:
            prefix = parse_qs(urlsplit(self.path).query)["prefix"][0]
            names = [name for name in (f"x/{key}" for key in self.state.objects) if name.startswith(prefix)]
            self.answer(200, LISTING.format("".join(map(ENTRY.format, names))).encode())
        elif name not in self.state.objects:
            self.answer(404)
        else:
            self.send_object(self.state.objects[name])

    def send_object(self, content, cut=None):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            self.answer(200, content, cut)
        elif int(wanted[1]) >= len(content):
            self.answer(416)
        else:
            start, end = int(wanted[1]), min(int(wanted[2] or len(content) - 1) + 1, len(content))
            span = f"bytes {start}-{end - 1}/{len(content)}"
            self.answer(206, content[start:end], cut, Content_Range=span)

    do_GET = do_HEAD = do_PUT = do_POST = serve  # noqa: N815 - names of http.server


@pytest.fixture
def server():
    state = Server()
    with served(type("", (S3,), {"state": state})) as state.url:
        yield state


@pytest.fixture
def remote(server, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return opened(server.url)


def opened(url, timeout="5"):
    options = {"endpoint": url, "region": "us-east-1", "timeout": timeout}
    return open_remote("s3://models/x", options, context())


@pytest.fixture
def impatient(monkeypatch):
    """Let time pass without waiting, and leave it to us to try again."""
    monkeypatch.setattr(_requests, "_RETRIES", 0)
    waits, clock, real = [], time.monotonic, time.sleep

    def sleep(seconds):
        if threading.current_thread() is threading.main_thread():
            waits.append(seconds)
        else:  # a server that another test left
            real(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock() + sum(waits))
    return waits


@pytest.mark.parametrize("cut", [0, 1, 1000, 100_000, len(CONTENT) - 1])
def test_a_download_goes_on_where_the_connection_ends(server, remote, tmp_path, cut):
    server.objects[KEY] = CONTENT
    server.instead = [("GET", lambda request: request.send_object(CONTENT, cut)), ("never", None)]
    remote.fetch(KEY, tmp_path / "a", len(CONTENT))
    assert (tmp_path / "a").read_bytes() == CONTENT
    first, second = (span for method, _, span in server.asked if method == "GET")
    assert first is None
    assert second in {f"bytes={cut}-", f"bytes={cut}-{len(CONTENT) - 1}", None if cut == 0 else ""}


def test_a_server_that_cuts_every_connection_is_asked_as_long_as_something_comes(server, remote, tmp_path):
    server.objects[KEY] = CONTENT
    server.instead = [("GET", lambda request: request.send_object(CONTENT, 20_000))]
    remote.fetch(KEY, tmp_path / "a", len(CONTENT))
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_what_has_come_is_kept_when_nothing_more_comes(server, remote, tmp_path):
    server.objects[KEY] = CONTENT
    cut = ("GET", lambda request: request.send_object(CONTENT, 100_000))
    server.instead = [cut, ("GET", lambda request: request.answer(400))]
    with pytest.raises(RemoteError, match="400 Bad Request"):
        remote.fetch(KEY, tmp_path / "a", len(CONTENT))
    assert 80_000 < (tmp_path / "a").stat().st_size <= 100_000
    assert CONTENT.startswith((tmp_path / "a").read_bytes())


@pytest.mark.parametrize("said", [len(CONTENT) - 1, len(CONTENT) + 1, 1 << 60])
def test_lying_sizes_are_refused_before_anything_is_copied(server, remote, tmp_path, said):
    server.instead = [("GET", lambda request: request.answer(200, CONTENT, Content_Length=str(said)))]
    with pytest.raises(CorruptError, match="instead of"):
        remote.fetch(KEY, tmp_path / "a", len(CONTENT))
    assert not (tmp_path / "a").exists()


def test_a_range_of_another_size_is_refused(server, remote):
    server.instead = [("GET", lambda request: request.answer(206, b"x" * 999, Content_Range="bytes 0-998/999"))]
    with pytest.raises(RemoteError, match="Requested"):
        remote.get(KEY, 0, 10)


def test_a_busy_server_is_asked_again_after_the_time_that_it_says(server, remote, tmp_path, impatient):
    (tmp_path / "a").write_bytes(b"one")
    busy = (".", lambda request: request.answer(503, Retry_After="7"))
    server.instead = [busy, busy, ("never", None)]  # the second is asked how long
    assert remote.put(KEY, tmp_path / "a")
    assert impatient == [7]
    assert server.objects == {KEY: b"one"}


def test_a_server_that_stays_busy_is_an_error_with_status_and_code(server, remote, impatient):
    body = b"<Error><Code>SlowDown</Code></Error>"
    server.instead = [(".", lambda request: request.answer(503, body, Retry_After="120"))]
    with pytest.raises(RemoteTimeoutError, match=r"busy: 503 Service Unavailable \(SlowDown\).*wait for 120") as caught:
        remote.get(KEY, 0, 10)
    assert caught.value.hint
    assert impatient == [120, 120]


def test_a_server_that_says_now_and_is_busy_again_is_not_asked_forever(server, remote, impatient):
    server.instead = [(".", lambda request: request.answer(503, Retry_After="0"))]
    with pytest.raises(RemoteTimeoutError, match="busy"):
        remote.get(KEY, 0, 10)
    assert 30 <= len(impatient) < 100


def test_a_server_that_does_not_say_how_long_is_busy_at_most_for_the_limit(server, remote, impatient):
    server.instead = [(".", lambda request: request.answer(429))]
    with pytest.raises(RemoteTimeoutError, match="429 Too Many Requests"):
        remote.get(KEY, 0, 10)
    assert impatient


def test_redirects_are_followed_and_carry_no_credentials(server, remote):
    seen = []
    server.objects[KEY] = CONTENT

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers.get("Authorization"))
            self.send_response(200)
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(b"one")

        def log_message(self, *_):
            pass

    with served(Elsewhere) as url:
        there = f"{url.replace('127.0.0.1', 'localhost')}/elsewhere"
        server.instead = [("GET", lambda request: request.answer(302, Location=there))]
        assert remote.get(KEY) == b"one"
    assert seen == [None]


def test_a_listing_cannot_lead_out_of_the_remote(server, remote):
    names = ["other/packs/ab/" + NAME, "x/packs/ab/" + NAME, "x/packs/a b", "xx/packs/cd/" + NAME, "x/index/" + NAME]
    body = LISTING.format("".join(map(ENTRY.format, names))).encode()
    server.instead = [("GET", lambda request: request.answer(200, body))]
    assert list(remote.list("packs/")) == [KEY]


@pytest.mark.parametrize("name", ["x/packs/../../etc", "x//packs/" + NAME, "/etc/passwd", "x/packs/\u0001"])
def test_a_listing_with_paths_that_are_none_is_an_error_at_most(server, remote, name):
    body = LISTING.format(ENTRY.format(name)).encode()
    server.instead = [("GET", lambda request: request.answer(200, body))]
    with suppress(RemoteError):
        assert list(remote.list("packs/")) == []


@pytest.mark.parametrize("body", [b"", b"<html>", b"<ListBucketResult><Contents><Key>x", b"\xff\xfe\0"])
def test_a_listing_that_is_none_is_an_error(server, remote, body):
    server.instead = [("GET", lambda request: request.answer(200, body))]
    with pytest.raises(RemoteError):
        list(remote.list("packs/"))


def test_a_listing_without_end_is_an_error(server, remote, monkeypatch):
    monkeypatch.setattr(_objects, "_MOST_KEYS", 100)
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken>"
    body = LISTING.format(ENTRY.format(f"x/{KEY}") * 10 + more).encode()
    server.instead = [("GET", lambda request: request.answer(200, body))]
    with pytest.raises(RemoteError, match="lists more than 100 objects"):
        list(remote.list("packs/"))


@pytest.mark.parametrize(
    ("status", "body", "message", "hint"),
    [
        (403, b"<Error><Code>Denied</Code></Error>", "(Denied), with AWS_ACCESS_KEY_ID", "anonymous"),
        (401, b"", "401 Unauthorized, with AWS_ACCESS_KEY_ID", "credentials"),
        (301, b"", "another region", "region"),
        (400, b"<Error><Code>AuthorizationHeaderMalformed</Code></Error>", "AuthorizationHeaderMalformed", "region"),
        (404, b"<Error><Code>NoSuchBucket</Code></Error>", "no such bucket", "or create it"),
    ],
)  # fmt: skip
def test_refusals_say_what_was_tried_and_what_to_do(server, remote, status, body, message, hint):
    server.instead = [(".", lambda request: request.answer(status, body))]
    with pytest.raises(RemoteError) as caught:
        list(remote.list("packs/"))
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert ID not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "http" not in caught.value.message  # nor the address of the request, nor the answer


def test_another_writer_at_the_same_time_is_no_error_if_it_succeeds(server, remote, tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    server.instead = [("PUT", lambda request: request.answer(409))]
    with pytest.raises(RemoteError, match="another client"):
        remote.put(KEY, tmp_path / "a")
    server.objects[KEY] = b"one"
    assert remote.put(KEY, tmp_path / "a") is False


def test_a_server_without_conditions_is_asked_first(server, remote, tmp_path, monkeypatch):
    monkeypatch.setattr(_requests, "_RETRIES", 0)
    (tmp_path / "a").write_bytes(b"one")

    def refuse(request):
        return request.answer(501) if request.headers.get("If-None-Match") else request

    server.instead = [("PUT", refuse)]
    assert remote.put(KEY, tmp_path / "a") is True
    assert remote.put(KEY, tmp_path / "a") is False
    assert server.objects == {KEY: b"one"}


def test_a_file_that_is_gone_is_an_error_of_the_file(remote, tmp_path):
    with pytest.raises(FileNotFoundError):
        remote.put(KEY, tmp_path / "gone")


def requests(server):
    """Return what the server was asked since the last call, without listings."""
    asked, server.asked = server.asked, []
    return [f"{method} {path.split('/')[3]}" for method, path, _ in asked if "?list-type" not in path]


def publish(remote, path, *names):
    for name in names:
        path.write_bytes(CONTENT + name.encode())
        remote.put(f"packs/{name[:2]}/{name}", path)
    remote.publish({f"index/{name}": path for name in names})


def test_packs_take_one_request_each_and_their_index_entries_one_together(server, remote, tmp_path):
    other = "cd" * 32
    assert list(remote.list("")) == []
    publish(remote, tmp_path / "a", NAME, other)
    assert requests(server) == ["PUT packs", "PUT packs", "PUT heads"]
    assert set(remote.list("index/")) == {f"index/{NAME}", f"index/{other}"}
    assert requests(server) == []
    for times, context_of in ((1, context()), (1, context(tmp_path)), (0, context(tmp_path))):
        reader = open_remote("s3://models/x", {"endpoint": server.url, "region": "us-east-1"}, context_of)
        assert set(reader.list("")) == {KEY, f"packs/cd/{other}", f"index/{NAME}", f"index/{other}"}
        assert reader.get(f"index/{NAME}", 0, 1 << 26) == (tmp_path / "a").read_bytes()
        assert requests(server) == ["GET heads"] * times
    reader.fetch(KEY, tmp_path / "b", len(CONTENT) + 64)
    assert requests(server) == ["GET packs"]


def test_one_index_entry_is_an_object_of_its_own(server, remote, tmp_path):
    publish(remote, tmp_path / "a", NAME)
    assert requests(server) == ["PUT packs", "PUT index"]
    assert opened(server.url).get(f"index/{NAME}") == (tmp_path / "a").read_bytes()


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"x" + data, lambda data: b""])
def test_damaged_index_entries_count_as_missing(server, remote, tmp_path, damage):
    publish(remote, tmp_path / "a", NAME, "cd" * 32)
    [heads] = [key for key in server.objects if key.startswith("heads/")]
    server.objects[heads] = damage(server.objects[heads])
    reader = opened(server.url)
    assert set(reader.list("index/")) == set()
    with pytest.raises(MissingError):
        reader.get(f"index/{NAME}")
    assert KEY in set(reader.list("packs/"))


def test_a_damaged_cache_is_read_again(server, remote, tmp_path):
    publish(remote, tmp_path / "a", NAME, "cd" * 32)
    [heads] = [key for key in server.objects if key.startswith("heads/")]
    cached = tmp_path / "theta" / "remotes" / heads
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"damaged")
    reader = open_remote("s3://models/x", {"endpoint": server.url, "region": "us-east-1"}, context(tmp_path))
    assert f"index/{NAME}" in set(reader.list("index/"))
    assert cached.read_bytes() == server.objects[heads]


@pytest.mark.parametrize(
    ("host", "message"),
    [("http://127.0.0.1:1", "Connection refused"), ("http://nowhere.invalid", "failed to lookup address")],
)
def test_a_server_that_cannot_be_reached_is_named_with_the_reason(remote, monkeypatch, host, message):
    monkeypatch.setattr(_requests, "_RETRIES", 0)
    with pytest.raises(RemoteError, match=message):
        opened(host).get(KEY, 0, 10)


def test_a_certificate_that_is_not_trusted_is_said_to_be():
    details = "\n\nDebug source:\nInvalidCertificate(\n    UnknownIssuer,\n)"
    assert "not trusted (UnknownIssuer)" in _object_errors.read_failure(Exception("x" + details)).reason


def test_a_machine_that_is_in_no_cloud_has_no_credentials(remote):
    def ask():
        text = (
            "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 1s - HTTP error: error"
        )
        raise GenericError(f"{text} sending request\n\nDebug source:\nkind: Timeout, source: TimedOut")

    with pytest.raises(RemoteTimeoutError, match="no credentials in the environment"):  # which is not tried again
        remote._requests.run(ask, KEY)


def test_an_object_that_is_missing_is_missing(remote, tmp_path):
    with pytest.raises(MissingError, match=NAME):
        remote.get(KEY, 0, 10)
    with pytest.raises(MissingError):
        remote.fetch(KEY, tmp_path / "a", 3)


@pytest.mark.parametrize("timeout", ["soon", "0", "-1", "nan", "inf", "1e9"])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(timeout):
    with pytest.raises(ConfigError, match="timeout"):
        opened("http://127.0.0.1:1", timeout)


def test_nothing_but_our_own_words_reaches_standard_error(tmp_path):
    code = """
from git_theta_ext.errors import RemoteError
from git_theta_ext.interfaces import RemoteContext
from git_theta_plugins.remotes.object_store import open_remote
options = {"endpoint": "http://127.0.0.1:1", "region": "us-east-1", "timeout": "0.2"}
try:
    list(open_remote("s3://models/x", options, RemoteContext()).list(""))
except RemoteError:
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
