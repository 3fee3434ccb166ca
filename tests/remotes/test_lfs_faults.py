"""What goes wrong between the remote on an LFS server and the server."""

from __future__ import annotations

import subprocess
import time

import pytest
from benchmarks.faults import Fault
from benchmarks.lfs_host import LfsHost
from lfs_packs import KEY, NAME, PACK, key_of, opened, published

from git_theta_ext.errors import CorruptError, MissingError, RemoteError, RemoteTimeoutError

pytestmark = pytest.mark.usefixtures("impatient")


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
    assert time.monotonic() - began >= 1
    host.faults = [Fault("batch", 429, {"Retry-After": "3000"})]
    with pytest.raises(RemoteTimeoutError, match="asks to wait for 3000 seconds"):
        remote.get(KEY)


def test_a_full_disk_of_the_server_is_not_tried_again(host, remote, pack):
    host.faults = [Fault("PUT", 507, times=1000)]
    with pytest.raises(RemoteError, match="status 507") as caught:
        remote.put(KEY, pack)
    assert len(host.requests("PUT")) == 1
    assert "make room on the server" in caught.value.hint


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
    published(opened(url, local), pack)
    remote = opened(url, local, timeout="0.3")
    (tmp_path / "other").write_bytes(b"other")
    for match in ("batch", "GET /objects", "PUT"):
        host.faults = [Fault(match, silent=600)]
        with pytest.raises(RemoteTimeoutError, match=r"no answer for 0\.3 seconds") as caught:
            remote.put(key_of(b"other"), tmp_path / "other") if match == "PUT" else remote.get(KEY)
        assert "theta.remote.NAME.timeout" in caught.value.hint


def test_a_silent_git_server_is_an_error_with_the_setting(host, url, local):
    host.faults = [Fault("info/refs", silent=600)]
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
    published(opened(url, local), pack)
    remote = opened(url, local, timeout="3")
    host.faults = [Fault("GET /objects", slow=0.4)]
    remote.fetch(KEY, tmp_path / "got", len(PACK))  # in more than the time that a server may be silent
    assert (tmp_path / "got").read_bytes() == PACK
    assert len(host.requests("GET /objects")) == 1


def test_wrong_bytes_and_sizes_are_noticed(host, remote, pack, tmp_path):
    published(remote, pack)
    (host.objects / NAME).write_bytes(PACK + b"x")
    with pytest.raises(MissingError):
        remote.fetch(KEY, tmp_path / "got", len(PACK))
    with pytest.raises(CorruptError):
        remote.fetch(KEY, tmp_path / "got", len(PACK) + 1)
    assert not (tmp_path / "got").exists()


def test_what_the_server_lost_is_listed_when_somebody_else_uploaded_it_again(host, url, remote, pack, local, tmp_path):
    published(remote, pack)
    (host.objects / NAME).unlink()
    with pytest.raises(MissingError):
        remote.fetch(KEY, tmp_path / "got", len(PACK))
    assert list(opened(url, local).list("")) == []
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "other")], check=True)
    published(opened(url, tmp_path / "other"), pack)
    again = opened(url, local)
    assert set(again.list("")) == {KEY, f"index/{NAME}"}
    assert again.get(KEY) == PACK


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
