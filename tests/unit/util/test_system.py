"""System calls that an operating system may lack."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
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


def test_cpus_are_those_of_the_process_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7})
    assert system.cpu_count() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert system.cpu_count() == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert system.cpu_count() == 1


def test_signals_that_end_a_process_are_those_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    assert system.ending_signals() == (signal.SIGTERM, signal.SIGHUP)
    monkeypatch.delattr(signal, "SIGHUP")
    assert system.ending_signals() == (signal.SIGTERM,)


@pytest.mark.parametrize(("groups", "code"), [(True, -signal.SIGKILL), (False, -signal.SIGTERM)])
def test_process_is_ended_with_and_without_groups(groups: bool, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if not groups:
        monkeypatch.delattr(os, "killpg")
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    system.kill_group(process.pid)
    assert process.wait() == code
    system.kill_group(process.pid)  # it has ended: nothing happens


def test_peak_of_children_is_in_bytes_and_zero_if_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run([sys.executable, "-c", "bytearray(1 << 25)"], check=True)
    assert 1 << 25 < system.peak_of_children() < 1 << 40
    monkeypatch.setitem(sys.modules, "resource", None)
    assert system.peak_of_children() == 0
