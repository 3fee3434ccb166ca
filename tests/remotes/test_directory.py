import errno
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from git_theta_ext.errors import ConfigError, MissingError, RemoteError
from git_theta_ext.interfaces import RemoteContext
from git_theta_ext.testing import RemoteTests
from git_theta_plugins.remotes import _files
from git_theta_plugins.remotes.directory import open_remote

KEY = "packs/ab/" + "ab" * 32


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(b"content")
    return path


class TestDirectory(RemoteTests):
    @pytest.fixture
    def remote(self, tmp_path, report):
        return open_remote(str(tmp_path / "theta"), {}, RemoteContext(report=report))


class TestDirectoryThatCopies(RemoteTests):
    @pytest.fixture
    def remote(self, tmp_path, monkeypatch, report):
        monkeypatch.setattr(_files, "hard_link", lambda *_: False)
        return open_remote(f"file://{tmp_path}/the%20ta", {}, RemoteContext(report=report))


class TestDirectoryWithoutAnyLinks(RemoteTests):
    @pytest.fixture
    def remote(self, tmp_path, monkeypatch, report):
        def refuse(*_, **__):
            raise OSError(errno.EPERM, "no links")

        monkeypatch.setattr(os, "link", refuse)
        return open_remote(str(tmp_path / "theta"), {}, RemoteContext(report=report))


@pytest.mark.parametrize("url", ["theta", "./theta", "file://elsewhere/theta", "file:theta"])
def test_urls_that_are_no_absolute_path_are_refused(url):
    with pytest.raises(ConfigError):
        open_remote(url, {}, RemoteContext())


def test_a_pack_is_linked_not_copied(tmp_path, source):
    source.chmod(0o444)
    remote = open_remote(str(tmp_path / "theta"), {}, RemoteContext())
    remote.put(KEY, source)
    stored = tmp_path / "theta" / KEY
    assert stored.samefile(source) or stored.stat().st_nlink == 1  # the latter: reflinked
    remote.fetch(KEY, tmp_path / "back", 7)
    assert stored.samefile(tmp_path / "back") or stored.stat().st_nlink == 1


def test_whoever_reads_the_folder_reads_the_object(tmp_path, source):
    source.chmod(0o400)
    (tmp_path / "theta").mkdir()
    (tmp_path / "theta").chmod(0o2775)
    open_remote(str(tmp_path / "theta"), {}, RemoteContext()).put(KEY, source)
    stored = tmp_path / "theta" / KEY
    assert stored.stat().st_mode & 0o777 == 0o444
    assert stored.parent.stat().st_mode & 0o7777 == 0o2775
    assert source.stat().st_mode & 0o777 == 0o400


def test_directories_made_at_the_same_time_have_the_permissions_of_the_root(tmp_path, source, monkeypatch):
    chmod = Path.chmod

    def slow_chmod(path, mode):
        time.sleep(0.01)
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", slow_chmod)
    root = tmp_path / "theta"
    root.mkdir()
    chmod(root, 0o2775)
    remote = open_remote(str(root), {}, RemoteContext())
    keys = [f"packs/{number:02x}/{number:064x}" for number in range(8)]
    with ThreadPoolExecutor(len(keys)) as executor:
        assert all(executor.map(lambda key: remote.put(key, source), keys))
    assert {path.stat().st_mode & 0o7777 for path in root.rglob("*") if path.is_dir()} == {0o2775}
    assert sorted(remote.list("")) == keys
    assert not list(root.rglob("*~*"))


@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_a_directory_that_another_upload_replaces_is_written_to_again(tmp_path, source, monkeypatch, call):
    """Whoever makes the same directory replaces it while it is empty, so files cannot be made in the old one."""
    module = {"mkdir": Path, "open": os}[call]
    real, replaced = getattr(module, call), []

    def call_in_a_replaced_directory(path, *args, **options):
        if Path(path).name.startswith("tmp~") and (folder := Path(path).parent) != tmp_path and folder not in replaced:
            replaced.append(folder)
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(module, call, call_in_a_replaced_directory)
    assert open_remote(str(tmp_path / "theta"), {}, RemoteContext()).put(KEY, source)
    assert (tmp_path / "theta" / KEY).read_bytes() == source.read_bytes()
    assert replaced


def test_a_missing_parent_folder_is_an_error_not_an_empty_remote(tmp_path, source):
    remote = open_remote(str(tmp_path / "unmounted" / "theta"), {}, RemoteContext())
    for call in (lambda: list(remote.list("")), lambda: remote.put(KEY, source), lambda: remote.get(KEY)):
        with pytest.raises(RemoteError, match="no such directory"):
            call()
    assert not (tmp_path / "unmounted").exists()


def test_symbolic_links_lead_nowhere(tmp_path, source):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ("ab" * 32)).write_bytes(b"secret")
    root = tmp_path / "theta"
    (root / "packs").mkdir(parents=True)
    (root / "packs" / "ab").symlink_to(outside)
    remote = open_remote(str(root), {}, RemoteContext())
    assert list(remote.list("")) == []
    for call in (
        lambda: remote.get(KEY),
        lambda: remote.put(KEY, source),
        lambda: remote.fetch(KEY, tmp_path / "x", 6),
        lambda: remote.publish({KEY: source}),
        lambda: list(remote.list("packs/ab/")),
    ):
        with pytest.raises(RemoteError, match="symbolic link"):
            call()
    assert list(outside.iterdir()) == [outside / ("ab" * 32)]


def test_half_uploads_are_not_listed_and_old_ones_go(tmp_path, source):
    folder = tmp_path / "theta" / "packs" / "ab"
    folder.mkdir(parents=True)
    old, young = folder / "tmp~old", folder / "tmp~young"
    for path in (old, young):
        path.write_bytes(b"half")
    left = tmp_path / "theta" / "tmp~folder"
    left.mkdir()
    for path in (old, left):
        os.utime(path, (time.time() - 90_000,) * 2)
    remote = open_remote(str(tmp_path / "theta"), {}, RemoteContext())
    assert list(remote.list("")) == []
    remote.put(KEY, source)
    assert not old.exists()
    assert not left.exists()
    assert young.exists()


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path, source, monkeypatch):
    monkeypatch.setattr(_files, "hard_link", lambda *_: False)

    def full(fd, data):
        os.write(fd, data[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_files, "write_all", full)
    remote = open_remote(str(tmp_path / "theta"), {}, RemoteContext())
    with pytest.raises(RemoteError, match="No space left") as caught:
        remote.put(KEY, source)
    assert str(tmp_path / "theta") in caught.value.message
    assert "free some space" in caught.value.hint
    assert [path for path in (tmp_path / "theta").rglob("*") if path.is_file()] == []
    with pytest.raises(MissingError):
        remote.get(KEY)


def test_going_on_with_a_shared_file_does_not_change_the_other_name(tmp_path, source):
    remote = open_remote(str(tmp_path / "theta"), {}, RemoteContext())
    remote.put(KEY, source)
    other = tmp_path / "other"
    other.write_bytes(b"con")
    os.link(other, tmp_path / "part")
    remote.fetch(KEY, tmp_path / "part", 7)
    assert (tmp_path / "part").read_bytes() == b"content"
    assert other.read_bytes() == b"con"


def test_what_is_kept_is_young_again(source, tmp_path):
    remote = open_remote(str(tmp_path / "theta"), {}, RemoteContext())
    remote.put(KEY, source)
    pack = tmp_path / "theta" / KEY
    os.utime(pack, (time.time() - 90_000,) * 2)
    assert remote.keep([KEY]) == {KEY}
    assert time.time() - pack.stat().st_mtime < 60


def test_what_belongs_to_somebody_else_is_there_and_cannot_be_touched(source, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, "not yours")

    remote = open_remote(str(tmp_path / "theta"), {}, RemoteContext())
    remote.put(KEY, source)
    monkeypatch.setattr(os, "utime", refuse)
    other = "packs/cd/" + "cd" * 32
    assert remote.keep([KEY, other]) == {KEY}


def test_keeping_asks_whether_the_file_system_is_there(tmp_path):
    with pytest.raises(RemoteError, match="no such directory"):
        open_remote(str(tmp_path / "unmounted" / "theta"), {}, RemoteContext()).keep([KEY])
