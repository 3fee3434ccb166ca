"""System calls that an operating system may lack."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

import pytest

from git_theta_ext.util import system
from git_theta_ext.util.folders import private_directory, temporary_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["with the calls of Linux", "without them"])
def descriptor(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Open a file of ten digits, at position 2, on a system with and without reads and writes at an offset."""
    if request.param == "without them":
        monkeypatch.delattr(os, "pread")
        monkeypatch.delattr(os, "pwrite")
    (tmp_path / "file").write_bytes(b"0123456789")
    opened = os.open(tmp_path / "file", os.O_RDWR)
    os.lseek(opened, 2, os.SEEK_SET)
    yield opened
    os.close(opened)


def test_read_at_an_offset_keeps_the_position(descriptor: int) -> None:
    assert system.pread(descriptor, 3, 6) == b"678"
    assert system.pread(descriptor, 9, 8) == b"89"
    assert os.read(descriptor, 1) == b"2"


def test_write_at_an_offset_keeps_the_position(descriptor: int) -> None:
    assert system.pwrite(descriptor, memoryview(b"abc"), 6) == 3
    assert os.read(descriptor, 20) == b"2345abc9"


def test_one_call_reads_and_writes_no_more_than_macos_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr(os, "pread", lambda _, count, __: counts.append(count) or b"")
    with (tmp_path / "file").open("w+b") as file:
        assert system.pread(file.fileno(), 1 << 40, 0) == b""
        monkeypatch.setattr(system, "_MOST", 4)
        assert system.pwrite(file.fileno(), memoryview(b"abcdef"), 0) == 4
    assert counts[0] <= 2**31 - 1


def test_locks_of_one_file_exclude_each_other(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as one, (tmp_path / "file").open("w") as other:
        system.lock(one, shared=True)
        system.lock(other, shared=True, wait=False)
        with pytest.raises(BlockingIOError):
            system.lock(other, wait=False)


def test_system_without_locks_is_like_a_file_system_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "fcntl", None)
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match=os.strerror(errno.ENOLCK)):
        system.lock(file)


def test_temporary_directories_are_made_and_removed_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "fcntl", None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with temporary_folder(tmp_path) as folder, private_directory("theta-test-") as private:
        assert folder.is_dir()
        assert private.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_pipe_is_widened_if_the_system_can(monkeypatch: pytest.MonkeyPatch) -> None:
    source, sink = os.pipe()
    size = fcntl.fcntl(source, 1032)  # F_GETPIPE_SZ
    monkeypatch.setattr(system, "fcntl", None)
    system.widen_pipe(source, 2 * size)
    assert fcntl.fcntl(source, 1032) == size
    monkeypatch.undo()
    system.widen_pipe(source, size // 2)
    assert fcntl.fcntl(source, 1032) == size // 2
    os.close(source)
    os.close(sink)
    system.widen_pipe(source, size)  # closed: nothing happens


@pytest.fixture(params=["with the calls of Linux", "without them"])
def _calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without them":
        for name in ("O_DIRECTORY", "readv", "writev"):
            monkeypatch.delattr(os, name)


@pytest.mark.usefixtures("_calls")
def test_directory_is_opened_and_made_durable_and_a_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for opened in (system.open_directory(tmp_path), system.open_directory(tmp_path / "link")):
        os.close(opened)
    system.sync_directory(tmp_path)
    with pytest.raises(NotADirectoryError):
        system.open_directory(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        system.open_directory(tmp_path / "link", follow=False)
    with pytest.raises(FileNotFoundError):
        system.open_directory(tmp_path / "absent")


@pytest.mark.usefixtures("_calls")
def test_pieces_are_written_and_read_in_order() -> None:
    source, sink = os.pipe()
    pieces = [b"abc", memoryview(b"defg")]
    written = system.write_pieces(sink, pieces)
    assert written in {3, 7}
    buffer = bytearray(10)
    assert system.read_into(source, memoryview(buffer)) == written
    assert buffer[:written] == b"abcdefg"[:written]
    os.close(sink)
    assert system.read_into(source, memoryview(buffer)) == 0
    os.close(source)


def test_mode_owner_and_attributes_are_set_only_if_the_system_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "file").open("w") as file:
        system.set_mode(file.fileno(), 0o640)
        for name in ("fchmod", "fchown", "geteuid", "listxattr"):
            monkeypatch.delattr(os, name)
        system.set_mode(file.fileno(), 0o600)
        system.set_owner(file.fileno(), 1, 1)
        system.copy_attributes(tmp_path, file.fileno())
        status = os.fstat(file.fileno())
    assert status.st_mode & 0o777 == 0o640
    assert status.st_uid == os.getuid()
    assert system.is_own(status)


def test_lease_and_reflink_are_refused_if_the_system_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "fcntl", None)
    with (tmp_path / "file").open("w") as file:
        with pytest.raises(OSError, match=os.strerror(errno.ENOTSUP)):
            system.lease(file.fileno())
        with pytest.raises(OSError, match=os.strerror(errno.ENOTSUP)):
            system.reflink(file.fileno(), file.fileno())
