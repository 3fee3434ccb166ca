"""The remote on an LFS server: conformance, requests and settings."""

from __future__ import annotations

import hashlib
import subprocess
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

import pytest
from benchmarks.faults import Fault
from lfs_packs import KEY, NAME, PACK, key_of, opened, published
from servers import served

from git_theta_ext.errors import ConfigError
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.testing import RemoteTests
from git_theta_plugins.remotes._http_connections import Connector
from git_theta_plugins.remotes.lfs import open_remote

pytestmark = pytest.mark.usefixtures("impatient")


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


def test_connections_are_reused(host, remote, pack, monkeypatch):
    made = []
    real = Connector.connect
    monkeypatch.setattr(Connector, "connect", lambda self, url: made.append(url) or real(self, url))
    published(remote, pack)
    for start in range(5):
        remote.get(KEY, start, start + 10)
    assert len(host.log) > 12
    assert len(made) == 1


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


def test_large_objects_are_uploaded_in_parts(host, remote, pack):
    host.part = 100_001
    published(remote, pack)
    assert host.stored() == {NAME}
    parts = host.requests(r"PUT /objects/[0-9a-f]+/\d")
    assert [request.up for request in parts] == [100_001, 100_001, 99_998]
    assert all("authorization" not in request.headers for request in parts)
    assert remote.get(KEY) == PACK


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


def test_settings_and_repositories_that_are_wrong_are_refused(url, local):
    with pytest.raises(ConfigError, match="unknown setting endpoint"):
        opened(url, local, endpoint="x")
    with pytest.raises(ConfigError, match="there is none"):
        open_remote(url, {}, RemoteContext("origin", url))


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
