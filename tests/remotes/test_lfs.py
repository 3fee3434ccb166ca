"""The remote on an LFS server: conformance, and what goes wrong between it and a server."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from benchmarks.faults import Fault
from benchmarks.lfs_host import LfsHost
from servers import served, silent

from git_theta_ext.errors import ConfigError, CorruptError, MissingError, RemoteError, RemoteTimeoutError
from git_theta_ext.git.repository import Repository
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.testing import RemoteTests
from git_theta_plugins.remotes import _attempts
from git_theta_plugins.remotes._http_connections import Connector
from git_theta_plugins.remotes._index_format import join_heads
from git_theta_plugins.remotes.lfs import open_remote

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_theta_plugins.remotes.lfs import Lfs

PACK = os.urandom(300_000)
NAME = hashlib.sha256(PACK).hexdigest()
KEY = f"packs/{NAME[:2]}/{NAME}"


def pointer(name: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{name}\nsize {size}\n".encode()


def key_of(data: bytes) -> str:
    name = hashlib.sha256(data).hexdigest()
    return f"packs/{name[:2]}/{name}"


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """Return a local repository."""
    path = tmp_path / "local"
    subprocess.run(["git", "init", "--quiet", str(path)], check=True)
    return path


@pytest.fixture
def remote(url: str, local: Path) -> Lfs:
    """Return the remote of the local repository."""
    return opened(url, local)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Return the file of a pack."""
    path = tmp_path / "pack"
    path.write_bytes(PACK)
    return path


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a hundredth of the time before another try."""
    real = _attempts.backoff
    monkeypatch.setattr(_attempts, "backoff", lambda *args: real(*args) / 100)


def opened(url: str, local: Path, report: Callable[[str, int], None] = silent, **options: str) -> Lfs:
    return open_remote(url, options, RemoteContext("origin", url, Repository.discover(local), report))


def published(remote: Lfs, pack: Path) -> None:
    remote.put(KEY, pack)
    (pack.parent / "entry").write_bytes(b"an entry")
    remote.publish({f"index/{NAME}": pack.parent / "entry"})


class TestLfs(RemoteTests):
    @pytest.fixture
    def remote(self, url, local, report):
        return opened(url, local, report)


def test_progress_is_within_a_pack_and_over_several_tries(host, url, local, pack, tmp_path):
    taken = []
    remote = opened(url, local, lambda key, nbytes: taken.append((key, nbytes)))
    host.faults = [Fault("PUT", cut_up=100_000)]
    published(remote, pack)
    sent = [nbytes for key, nbytes in taken if key == KEY]
    assert sent.count(0) > 1  # it began again
    assert [n for n in sent if 0 < n < len(PACK)]
    assert sent[-1] == len(PACK)
    taken.clear()
    remote.fetch(KEY, tmp_path / "back", len(PACK))
    assert taken[0] == (KEY, 0)
    assert taken[-1] == (KEY, len(PACK))


def test_objects_are_asked_for_together(host, remote, tmp_path):
    packs = {f"pack {number}".encode(): tmp_path / f"pack-{number}" for number in range(8)}
    for data, path in packs.items():
        path.write_bytes(data)
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda item: remote.put(key_of(item[0]), item[1]), packs.items()))
    assert len(host.requests("POST .*/batch")) < 8
    assert len(host.requests("PUT ")) == len(host.requests("POST /verify")) == 8
    assert host.verified == host.stored()


def test_actions_get_their_own_headers_and_no_others(host, url, local, pack):
    host.user = ("me", "secret")
    remote = opened(url.replace("http://", "http://me:secret@"), local)
    remote.put(KEY, pack)
    assert remote.get(KEY, 0, 10) == PACK[:10]
    for request in host.requests("/objects/[0-9a-f]{64}$|/verify"):
        assert request.headers["authorization"].startswith("Bearer ")


def test_connections_are_reused(host, remote, pack, monkeypatch):
    made = []
    real = Connector.connect
    monkeypatch.setattr(Connector, "connect", lambda self, url: made.append(url) or real(self, url))
    published(remote, pack)
    for start in range(5):
        remote.get(KEY, start, start + 10)
    assert len(host.log) > 12
    assert len(made) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_tried_again(host, remote, pack, status):
    host.faults = [Fault("batch|PUT|GET /objects|verify", status, times=3)]
    published(remote, pack)
    host.faults = [Fault("batch|GET /objects", status, times=3)]
    assert remote.get(KEY) == PACK


def test_a_server_says_when_to_come_back(host, remote, pack):
    host.faults = [Fault("PUT", 503, {"Retry-After": "1"})]
    began = time.monotonic()
    assert remote.put(KEY, pack)
    assert 1 <= time.monotonic() - began < 10
    host.faults = [Fault("batch", 429, {"Retry-After": "3000"})]
    with pytest.raises(RemoteTimeoutError, match="asks to wait for 3000 seconds"):
        remote.get(KEY)


@pytest.mark.parametrize("match", ["batch", "PUT", "verify"])
def test_an_upload_that_always_fails_ends_with_the_reason(host, remote, pack, match):
    host.faults = [Fault(match, 503, times=1000)]
    with pytest.raises(RemoteTimeoutError, match=r"a fault .*status 503.*tried 6 times"):
        remote.put(KEY, pack)
    assert len(host.log) < 20


def test_uploads_whose_connection_breaks_are_sent_again(host, remote, pack):
    host.faults = [Fault("PUT", cut_up=cut) for cut in (1, 100_000, 299_000)]
    published(remote, pack)
    assert host.stored() == {NAME}


def test_downloads_continue_where_the_connection_broke(host, remote, pack, tmp_path):
    published(remote, pack)
    cuts = (0, 1, 100_000, 150_000)
    host.faults = [Fault("GET /objects", cut_down=cut) for cut in cuts]
    remote.fetch(KEY, tmp_path / "got", len(PACK))
    assert (tmp_path / "got").read_bytes() == PACK
    assert sum(request.down for request in host.requests("GET /objects")) == len(PACK)


def test_a_server_without_ranges_sends_all_again(host, remote, pack, tmp_path):
    published(remote, pack)
    host.ranges = False
    host.faults = [Fault("GET /objects", cut_down=100_000)]
    remote.fetch(KEY, tmp_path / "got", len(PACK))
    assert (tmp_path / "got").read_bytes() == PACK
    assert remote.get(KEY, 299_990) == PACK[299_990:]


def test_ranges_of_an_object_take_a_request_each(host, remote, pack):
    published(remote, pack)
    data, key = pack.read_bytes(), key_of(pack.read_bytes())
    done = len(host.log)
    assert [remote.get(key, at, at + 10) for at in (0, 5, 20)] == [data[at : at + 10] for at in (0, 5, 20)]
    assert [request.method for request in host.log[done:]] == ["POST", "GET", "GET", "GET"]
    assert remote.ranged
    host.tokens.clear()  # then the server is asked for another one
    assert remote.get(key, 3, 9) == data[3:9]
    assert len(host.requests(r"POST .*/batch")) > 1


@pytest.mark.parametrize("start", [0, 7])
def test_a_server_that_ignores_ranges_is_noticed(host, remote, pack, start):
    published(remote, pack)
    data, key = pack.read_bytes(), key_of(pack.read_bytes())
    host.ranges = False
    assert remote.get(key) == data
    assert remote.ranged
    assert remote.get(key, start, start + 5) == data[start : start + 5]
    assert not remote.ranged


def test_a_silent_server_is_an_error_with_the_setting(host, url, local, pack, tmp_path):
    remote = opened(url, local, timeout="0.3")
    published(remote, pack)
    (tmp_path / "other").write_bytes(b"other")
    for match in ("batch", "GET /objects", "PUT"):
        host.faults = [Fault(match, silent=1)]
        with pytest.raises(RemoteTimeoutError, match=r"no answer for 0\.3 seconds") as caught:
            remote.put(key_of(b"other"), tmp_path / "other") if match == "PUT" else remote.get(KEY)
        assert "theta.remote.NAME.timeout" in caught.value.hint


def test_a_silent_git_server_is_an_error_with_the_setting(host, url, local):
    host.faults = [Fault("info/refs", silent=3)]
    with pytest.raises(RemoteTimeoutError, match="too slow") as caught:
        list(opened(url, local, timeout="0.5").list(""))
    assert "theta.remote.NAME.timeout" in caught.value.hint


def test_tokens_that_expire_are_replaced(host, remote, pack, tmp_path):
    host.faults = [Fault("PUT|verify", 403), Fault("PUT|verify", 401)]
    published(remote, pack)
    host.faults = [Fault("GET /objects", 401), Fault("GET /objects", 403)]
    remote.fetch(KEY, tmp_path / "got", len(PACK))
    assert len(host.requests("batch")) == 6


def test_a_slow_server_is_not_a_silent_one(host, url, local, pack, tmp_path):
    remote = opened(url, local, timeout="0.6")
    published(remote, pack)
    host.faults = [Fault("batch", slow=0.1), Fault("GET /objects", slow=0.1)]
    remote.fetch(KEY, tmp_path / "got", len(PACK))  # in more than the time that a server may be silent
    assert (tmp_path / "got").read_bytes() == PACK
    assert len(host.requests("GET /objects")) == 1


HELPER = """#!/bin/sh
[ "$1" = get ] || exit 0
echo call >>{log}
printf 'username=me\\npassword=secret %s\\n' $(($(wc -l <{log})))
"""


def test_a_login_that_expires_during_a_push_is_replaced(host, url, local, pack, tmp_path):
    helper = tmp_path / "helper"
    helper.write_text(HELPER.format(log=tmp_path / "calls"))
    helper.chmod(0o755)
    subprocess.run(["git", "-C", str(local), "config", "credential.helper", str(helper)], check=True)
    host.user = ("me", "secret 1")
    remote = opened(url, local)
    remote.put(KEY, pack)
    host.user = ("me", "secret 2")
    pack.write_bytes(b"another pack")
    remote.put(key_of(b"another pack"), pack)
    assert len(host.stored()) == 2
    host.user = ("me", "a secret that the helper does not know")
    pack.write_bytes(b"a third pack")
    with pytest.raises(RemoteError, match="does not accept the credential of user 'me' from git credential") as caught:
        remote.put(key_of(b"a third pack"), pack)
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"
    assert (tmp_path / "calls").read_text().count("call") == 3


def in_address(url, local):
    return url.replace("http://", "http://me:hunter2@"), "the address of the remote"


def in_netrc(url, local):
    (Path(os.environ["HOME"]) / ".netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    return url, "~/.netrc"


def in_header(url, local):
    header = f"Authorization: Basic {base64.b64encode(b'me:hunter2').decode()}"
    subprocess.run(["git", "-C", str(local), "config", "http.extraHeader", header], check=True)
    return url, "http.extraHeader"


def in_helper(url, local):
    helper = "!printf 'username=me\\npassword=hunter2\\n'; :"
    subprocess.run(["git", "-C", str(local), "config", "credential.helper", helper], check=True)
    return url, "the credential of user 'me' from git credential"


@pytest.mark.parametrize("place", [in_address, in_netrc, in_header, in_helper])
def test_a_login_that_is_refused_is_named_and_not_printed(host, url, local, pack, place):
    host.user = ("me", "another")
    address, name = place(url, local)
    with pytest.raises(RemoteError, match=f"does not accept {name}$") as caught:
        opened(address, local).put(KEY, pack)
    shown = f"{caught.value.message} {caught.value.hint}"
    assert "hunter2" not in shown
    assert base64.b64encode(b"me:hunter2").decode() not in shown


def test_wrong_bytes_and_sizes_are_noticed(host, remote, pack, tmp_path):
    published(remote, pack)
    (host.objects / NAME).write_bytes(PACK + b"x")
    with pytest.raises(MissingError):
        remote.fetch(KEY, tmp_path / "got", len(PACK))
    with pytest.raises(CorruptError):
        remote.fetch(KEY, tmp_path / "got", len(PACK) + 1)
    assert not (tmp_path / "got").exists()


def test_what_the_server_lost_is_not_listed_and_uploaded_again(host, remote, pack, tmp_path):
    published(remote, pack)
    (host.objects / NAME).unlink()
    with pytest.raises(MissingError):
        remote.fetch(KEY, tmp_path / "got", len(PACK))
    assert remote.keep([KEY]) == set()
    assert list(remote.list("")) == []
    published(remote, pack)
    assert remote.keep([KEY]) == {KEY}
    assert host.stored() == {NAME}


def test_large_objects_are_uploaded_in_parts(host, remote, pack):
    host.part = 100_001
    published(remote, pack)
    assert host.stored() == {NAME}
    parts = host.requests(r"PUT /objects/[0-9a-f]+/\d")
    assert [request.up for request in parts] == [100_001, 100_001, 99_998]
    assert all("authorization" not in request.headers for request in parts)
    assert remote.get(KEY) == PACK


def test_two_clients_that_push_at_once_lose_nothing(host, url, local, tmp_path):
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "second")], check=True)
    contents = [f"pack {number}".encode() for number in range(4)]
    clients = [opened(url, folder) for folder in (local, tmp_path / "second", local, local)]

    def push(client: Lfs, data: bytes) -> None:
        list(client.list("packs/"))  # all read the index before any of them adds to it
        path = tmp_path / data.decode()
        path.write_bytes(data)
        client.put(key_of(data), path)
        gate.wait()
        client.publish({key_of(data).replace("packs/", "index/").replace(f"/{key_of(data)[6:8]}/", "/"): path})

    gate = Barrier(4)
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(push, clients, contents))
    late = opened(url, local)
    assert sorted(late.list("packs/")) == sorted(map(key_of, contents))
    assert all(late.get(key.replace("packs/", "index/")[:6] + key[9:]) for key in map(key_of, contents))


def test_a_host_that_refuses_the_ref_gets_a_branch(host, url, local, remote, pack, tmp_path):
    bare = host.root / "git" / "models.git"
    hook = bare / "hooks" / "update"
    hook.write_text("#!/bin/sh\ncase $1 in refs/heads/*) ;; *) echo no; exit 1;; esac\n")
    hook.chmod(0o755)
    published(remote, pack)
    refs = subprocess.run(
        ["git", "-C", str(bare), "for-each-ref", "--format=%(refname)"], capture_output=True, check=True
    )
    assert refs.stdout.decode().split() == ["refs/heads/theta/index"]
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "second")], check=True)
    other = opened(url, tmp_path / "second")
    assert list(other.list("packs/")) == [KEY]
    (tmp_path / "second pack").write_bytes(b"second")
    other.put(key_of(b"second"), tmp_path / "second pack")
    other.publish({f"index/{key_of(b'second')[9:]}": tmp_path / "second pack"})
    assert set(opened(url, local).list("packs/")) == {KEY, key_of(b"second")}


def test_an_empty_repository_is_no_error_in_an_old_protocol(remote, pack, local):
    # Servers behind ssh speak it unless they pass on GIT_PROTOCOL.
    subprocess.run(["git", "-C", str(local), "config", "protocol.version", "0"], check=True)
    published(remote, pack)
    assert remote.keep([KEY]) == {KEY}


def test_a_host_that_refuses_both_says_why(host, remote, pack):
    hook = host.root / "git" / "models.git" / "hooks" / "update"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(RemoteError, match="takes no index of parameters: it refuses refs"):
        published(remote, pack)


def test_the_index_has_the_canonical_pointer_of_each_pack(host, remote, pack):
    published(remote, pack)
    bare = str(host.root / "git" / "models.git")
    at = f"refs/theta/index:packs/{NAME[:2]}/{NAME[2:]}"
    done = subprocess.run(["git", "-C", bare, "cat-file", "blob", at], capture_output=True, check=True)
    assert done.stdout == pointer(NAME, len(PACK))


def test_memory_does_not_grow_with_a_pack(host, remote, tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    key = f"packs/{digest[:2]}/{digest}"
    tracemalloc.start()
    try:
        remote.put(key, path)
        assert tracemalloc.get_traced_memory()[1] < 48 << 20  # the server is in this process as well
    finally:
        tracemalloc.stop()


def test_redirects_to_another_host_get_no_credentials(host, url, local, pack, tmp_path):
    other = LfsHost(tmp_path / "other")
    try:
        remote = opened(url, local)
        published(remote, pack)
        (other.objects / NAME).write_bytes(PACK)
        target = f"{other.url.replace('127.0.0.1', 'localhost')}/objects/{NAME}"
        host.faults = [Fault("GET /objects", 302, {"Location": target})]
        host.faults[0].times = 100
        with pytest.raises(RemoteTimeoutError, match="expired"):
            remote.get(KEY)
        assert other.log
        assert all("authorization" not in request.headers for request in other.log)
        host.faults = [Fault("batch", 307, {"Location": f"{other.url}/x/info/lfs/objects/batch"})]
        with pytest.raises(RemoteError, match="gets no credentials"):
            opened(url, local).get(KEY, 0, 1)
    finally:
        other.close()


def test_a_hostile_index_adds_nothing_but_errors(host, url, local, pack, tmp_path):
    (host.objects / NAME).write_bytes(PACK)
    other = hashlib.sha256(b"other").hexdigest()
    files = {
        f"packs/{NAME[:2]}/{NAME[2:]}": pointer(NAME, len(PACK) + 1),  # a lie about the size
        f"packs/{other[:2]}/{other[2:]}": pointer(NAME, len(PACK)),  # a lie about the name
        "packs/zz/x": b"not a pack",
        f"heads/{'0' * 64}": b"not index entries",
        f"heads/{'1' * 64}": join_heads({NAME: b"an entry"})[:-3],
    }
    lines = [f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data + b"\n" for path, data in files.items()]
    stream = b"commit refs/theta/index\ncommitter a <a@x> 0 +0000\ndata 0\n" + b"".join(lines)
    bare = str(host.root / "git" / "models.git")
    subprocess.run(["git", "-C", bare, "fast-import", "--quiet"], input=stream, check=True)
    remote = opened(url, local)
    assert set(remote.list("packs/")) == {KEY, f"packs/{other[:2]}/{other}"}
    with pytest.raises(MissingError):
        remote.get(f"index/{NAME}")
    with pytest.raises(CorruptError, match=f"has {len(PACK) + 1} bytes instead of {len(PACK)}"):
        remote.fetch(KEY, tmp_path / "got", len(PACK))
    with pytest.raises(MissingError):
        remote.fetch(f"packs/{other[:2]}/{other}", tmp_path / "got", 5)
    assert not (tmp_path / "got").exists()
    assert remote.keep([KEY]) == set()


def test_more_bytes_than_expected_are_not_written(host, remote, pack, tmp_path):
    published(remote, pack)
    real = LfsHost.object_bytes
    for change in (lambda data: data + b"x" * 100, lambda data: data[:-1]):
        host.object_bytes = lambda path, change=change: change(real(host, path))
        with pytest.raises(CorruptError, match=f"does not have {len(PACK)} bytes"):
            remote.fetch(KEY, tmp_path / "got", len(PACK))
        assert not (tmp_path / "got").exists()


def test_a_server_that_speaks_something_else_is_named(host, remote, pack):
    host.faults = [Fault("batch", 200, {"Content-Type": "text/html"})]
    with pytest.raises(
        RemoteError, match=r"models\.git/info/lfs: the answer of the LFS server lists no objects"
    ) as caught:
        remote.put(KEY, pack)
    assert "theta.remote.NAME.url" in caught.value.hint


def test_a_repository_in_sha256_works_as_well(host, tmp_path, pack):
    kind = ["--object-format=sha256", "--quiet"]
    bare, local = host.root / "git" / "wide.git", tmp_path / "wide"
    subprocess.run(["git", "init", "--bare", *kind, str(bare)], check=True)
    subprocess.run(["git", "-C", str(bare), "config", "http.receivepack", "true"], check=True)
    subprocess.run(["git", "init", *kind, str(local)], check=True)
    published(opened(f"{host.url}/wide.git", local), pack)
    assert list(opened(f"{host.url}/wide.git", local).list("packs/")) == [KEY]


def test_commands_with_a_work_tree_elsewhere_work(url, local, pack, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", str(local / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    remote = open_remote(url, {}, RemoteContext("origin", url, Repository.discover()))
    published(remote, pack)
    assert remote.keep([KEY]) == {KEY}


def test_settings_and_repositories_that_are_wrong_are_refused(url, local):
    with pytest.raises(ConfigError, match="unknown setting endpoint"):
        opened(url, local, endpoint="x")
    with pytest.raises(ConfigError, match="there is none"):
        open_remote(url, {}, RemoteContext("origin", url))


def test_a_damaged_copy_of_the_index_is_replaced(url, local, pack):
    remote = opened(url, local)
    published(remote, pack)
    (copy,) = (local / ".git" / "theta" / "remote-index").glob("*.git")
    (copy / "shallow.lock").write_bytes(b"")  # as a killed fetch leaves it
    (copy / "refs" / "theta" / "index.lock").write_bytes(b"")
    assert list(opened(url, local).list("packs/")) == [KEY]
    for path in copy.glob("objects/??/*"):
        path.chmod(0o600)
        path.write_bytes(b"damaged")
    assert list(opened(url, local).list("packs/")) == [KEY]
    assert opened(url, local).get(f"index/{NAME}") == b"an entry"
    (copy / "HEAD").unlink()
    assert list(opened(url, local).list("packs/")) == [KEY]


def test_a_proxy_gets_all_requests(host, url, local, pack):
    passed = []

    class Proxy(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            parts = urlsplit(self.path)
            passed.append(f"{self.command} {parts.path}")
            connection = HTTPConnection(parts.netloc)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            target = f"{parts.path}?{parts.query}" if parts.query else parts.path
            connection.request(self.command, target, body, dict(self.headers.items()))
            answer = connection.getresponse()
            data = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            connection.close()

        do_POST = do_PUT = do_GET  # noqa: N815 - names of http.server

    with served(Proxy) as proxy:
        subprocess.run(["git", "-C", str(local), "config", "http.proxy", proxy], check=True)
        remote = opened(url, local)
        published(remote, pack)
        assert remote.get(KEY, 5, 10) == PACK[5:10]
    assert len(passed) == len(host.log)
    assert {path.rpartition("/")[2] for path in passed} >= {"batch", NAME, "verify", "git-receive-pack"}
