"""The directory on a host: OpenSSH's SFTP server as it is, and one without extensions."""

from __future__ import annotations

import os
import shlex
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from servers import silent
from sftp_server import Server, packet, status

from git_theta_ext.errors import CorruptError, RemoteError
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.protocol.sftp.packets import Code, Kind, string, u32
from git_theta_ext.testing import RemoteTests
from git_theta_plugins.remotes._ssh_command import SshCommand
from git_theta_plugins.remotes.ssh import open_remote

KEY = "packs/ab/" + "ab" * 32
OTHER = "packs/cd/" + "cd" * 32
OPENSSH = Path("/usr/lib/openssh/sftp-server")
needs_openssh = pytest.mark.skipif(not OPENSSH.exists(), reason="OpenSSH's SFTP server is not installed")


class Git:
    """A repository in which ssh is a program that serves this machine's files."""

    def __init__(self, folder, **environment):
        self.folder = self.common_dir = folder
        self._environment = environment

    def environment(self):
        return {**os.environ, "GIT_SSH_VARIANT": "ssh", **self._environment}

    def run(self, *args, **_):
        assert args[0] == "config"
        return b""


def direct(folder, path="theta", report=silent):
    """Open a directory through OpenSSH's server without ssh."""
    git = Git(folder, GIT_SSH_COMMAND=f"sh -c {shlex.quote(f'exec {OPENSSH}')}")
    return open_remote(f"ssh://somewhere{folder}/{path}", {}, RemoteContext("origin", "", git, report))


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Return a function that opens a directory of a server in this process."""

    def serve(server, path="theta", **options):
        monkeypatch.setattr(SshCommand, "start", server.start)
        return open_remote(f"sftp://somewhere{tmp_path}/{path}", options, RemoteContext())

    return serve


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(b"content")
    return path


@needs_openssh
class TestOpenSsh(RemoteTests):
    @pytest.fixture
    def remote(self, tmp_path, report):
        return direct(tmp_path, report=report)


class TestServerWithoutExtensions(RemoteTests):
    @pytest.fixture
    def remote(self, serve):
        return serve(Server(extensions=()))


class TestServerThatListsNamesOnly(RemoteTests):
    @pytest.fixture
    def remote(self, serve, monkeypatch):
        monkeypatch.setattr("sftp_server.names", lambda number, *entries: _names_only(number, entries))
        return serve(Server())


def _names_only(number, entries):
    body = b"".join(string(name) + string(b"") + u32(0) for name, _ in entries)
    return packet(Kind.NAME, u32(number) + u32(len(entries)) + body)


@needs_openssh
def test_large_objects_come_back_in_both_directions(tmp_path):
    content = os.urandom(9_000_001)
    (tmp_path / "a").write_bytes(content)
    remote = direct(tmp_path)
    assert remote.put(KEY, tmp_path / "a")
    assert (tmp_path / "theta" / KEY).read_bytes() == content
    (tmp_path / "b").write_bytes(content[:1_234_567])
    remote.fetch(KEY, tmp_path / "b", len(content))
    assert (tmp_path / "b").read_bytes() == content
    assert remote.get(KEY, 8_000_000, 9_500_000) == content[8_000_000:]


@needs_openssh
def test_whoever_reads_the_folder_reads_the_object(tmp_path, source):
    source.chmod(0o400)
    (tmp_path / "theta").mkdir()
    (tmp_path / "theta").chmod(0o2775)
    mask = os.umask(0o077)
    try:
        direct(tmp_path).put(KEY, source)
    finally:
        os.umask(mask)
    stored = tmp_path / "theta" / KEY
    assert stored.stat().st_mode & 0o777 == 0o444
    assert stored.parent.stat().st_mode & 0o7777 == 0o2775


@needs_openssh
def test_directories_made_at_the_same_time_have_the_permissions_of_the_root(tmp_path, source):
    keys = [f"packs/{number:02x}/{number:064x}" for number in range(8)]
    mask = os.umask(0o077)
    try:
        for number in range(8):
            root = tmp_path / f"theta{number}"
            root.mkdir()
            root.chmod(0o2775)
            remote = direct(tmp_path, root.name)
            with ThreadPoolExecutor(len(keys)) as executor:
                assert all(executor.map(remote.put, keys, [source] * len(keys)))
            assert {path.stat().st_mode & 0o7777 for path in root.rglob("*") if path.is_dir()} == {0o2775}
    finally:
        os.umask(mask)


@needs_openssh
def test_a_missing_parent_folder_is_an_error_not_an_empty_remote(tmp_path, source):
    remote = direct(tmp_path, "unmounted/theta")
    calls = (
        lambda: list(remote.list("")),
        lambda: remote.put(KEY, source),
        lambda: remote.get(KEY),
        lambda: remote.keep([KEY]),
    )
    for call in calls:
        with pytest.raises(RemoteError, match=r"no such directory as .*unmounted"):
            call()
    assert not (tmp_path / "unmounted").exists()


@needs_openssh
def test_symbolic_links_lead_nowhere(tmp_path, source):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ("ab" * 32)).write_bytes(b"secret")
    root = tmp_path / "theta"
    (root / "packs").mkdir(parents=True)
    (root / "packs" / "ab").symlink_to(outside)
    (root / "packs" / "cd").mkdir()
    (root / OTHER).symlink_to(outside / ("ab" * 32))
    assert list(direct(tmp_path).list("")) == []
    for call in (
        lambda remote: remote.get(KEY),
        lambda remote: remote.get(OTHER),
        lambda remote: remote.put(KEY, source),
        lambda remote: remote.fetch(KEY, tmp_path / "x", 6),
        lambda remote: remote.publish({KEY: source}),
        lambda remote: remote.keep([KEY]),
        lambda remote: list(remote.list("packs/ab/")),
    ):
        with pytest.raises(RemoteError, match="symbolic link"):
            call(direct(tmp_path))
    assert list(outside.iterdir()) == [outside / ("ab" * 32)]


@needs_openssh
def test_the_directory_itself_may_be_a_symbolic_link(tmp_path, source):
    (tmp_path / "there").mkdir()
    (tmp_path / "theta").symlink_to("there")
    remote = direct(tmp_path)
    remote.put(KEY, source)
    assert list(remote.list("")) == [KEY]
    assert (tmp_path / "there" / KEY).read_bytes() == b"content"


@needs_openssh
def test_half_uploads_are_not_listed_and_old_ones_go(tmp_path, source):
    folder = tmp_path / "theta" / "packs" / "ab"
    folder.mkdir(parents=True)
    old, young = folder / "tmp~old", folder / "tmp~young"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    remote = direct(tmp_path)
    assert list(remote.list("")) == []
    remote.put(KEY, source)
    assert list(remote.list("")) == [KEY]
    assert not old.exists()
    assert young.exists()


@needs_openssh
def test_what_is_kept_or_put_again_is_young_again(source, tmp_path):
    remote = direct(tmp_path)
    pack = tmp_path / "theta" / KEY
    remote.put(KEY, source)
    for renew in (lambda: remote.keep([KEY]), lambda: remote.put(KEY, source)):
        os.utime(pack, (time.time() - 90_000,) * 2)
        renew()
        assert time.time() - pack.stat().st_mtime < 60


@needs_openssh
def test_no_object_becomes_older_where_the_clock_of_the_host_is_ahead(source, tmp_path):
    remote = direct(tmp_path)
    remote.put(KEY, source)
    os.utime(tmp_path / "theta" / KEY, (time.time() + 90_000,) * 2)
    remote.keep([KEY])
    assert (tmp_path / "theta" / KEY).stat().st_mtime > time.time() + 80_000


def test_what_belongs_to_somebody_else_is_there_and_cannot_be_touched(serve, source):
    server = Server()
    remote = serve(server)
    remote.put(KEY, source)
    server.override = lambda kind, number, _: status(number, Code.PERMISSION_DENIED) if kind == Kind.SETSTAT else None
    assert remote.keep([KEY, OTHER]) == {KEY}


def test_many_objects_are_kept_without_waiting_for_each(serve, source):
    remote = serve(Server())
    remote.put(KEY, source)
    absent = [f"packs/00/{number:064x}" for number in range(2000)]
    assert remote.keep([*absent, KEY]) == {KEY}


def test_an_object_is_durable_before_it_has_its_name(serve, source):
    server = Server()
    serve(server).put(KEY, source)
    kinds = [kind for kind in server.received if kind in {Kind.OPEN, Kind.WRITE, Kind.EXTENDED}]
    # The directory and the file are opened; write, sync, link; then the directory is synchronised.
    assert kinds[-6:] == [Kind.OPEN, Kind.OPEN, Kind.WRITE, Kind.EXTENDED, Kind.EXTENDED, Kind.EXTENDED]


@needs_openssh
def test_an_object_of_another_size_is_refused_before_it_is_copied(tmp_path, source):
    remote = direct(tmp_path)
    remote.put(KEY, source)
    with pytest.raises(CorruptError, match="7 bytes instead of 8"):
        remote.fetch(KEY, tmp_path / "b", 8)
    assert not (tmp_path / "b").exists()


@needs_openssh
def test_a_folder_that_cannot_be_written_is_named(tmp_path, source):
    (tmp_path / "theta").write_bytes(b"a file in the way")
    with pytest.raises(RemoteError, match=r"ssh://somewhere.*packs/ab"):
        direct(tmp_path).put(KEY, source)


def test_transfers_take_bounded_memory(serve, tmp_path):
    size = 40 << 20
    with (tmp_path / "a").open("wb") as file:
        file.truncate(size)
    remote = serve(Server())
    list(remote.list(""))
    tracemalloc.start()
    try:
        remote.put(KEY, tmp_path / "a")
        remote.fetch(KEY, tmp_path / "b", size)
        assert tracemalloc.get_traced_memory()[1] < size // 2
    finally:
        tracemalloc.stop()
    assert (tmp_path / "b").stat().st_size == size
