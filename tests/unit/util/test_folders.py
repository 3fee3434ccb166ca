import errno
import fcntl
import subprocess
import sys

import pytest

from git_theta_ext.errors import StoreError
from git_theta_ext.util.folders import temporary_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from git_theta_ext.util.folders import temporary_folder
with temporary_folder(Path(sys.argv[1])) as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def left(tmp_path):
    """Return a directory in which a killed process left a temporary one."""
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    return tmp_path


def test_it_goes_at_the_end_whether_or_not_the_block_fails(tmp_path):
    with temporary_folder(tmp_path) as folder:
        (folder / "file").write_text("x")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="of the block"), temporary_folder(tmp_path):
        raise ValueError("of the block")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_is_in_use_or_of_somebody_else_stays(left):
    (left / "0123456789abcdef").mkdir()
    with temporary_folder(left) as one, temporary_folder(left) as other:
        assert set(left.iterdir()) == {one, other, left / "0123456789abcdef"}


def test_without_locks_directories_that_may_be_in_use_stay(left, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with temporary_folder(left) as folder:
        assert len(set(left.iterdir()) - {folder}) == 1


def test_one_that_another_process_takes_for_a_leftover_is_made_again(tmp_path, monkeypatch):
    lock, taken = fcntl.flock, []

    def late(descriptor, how):
        if not taken:
            taken.extend(tmp_path.iterdir())
            taken[0].rmdir()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with temporary_folder(tmp_path) as folder:
        assert folder.is_dir()
        assert folder not in taken


def test_where_none_can_be_made_is_named(tmp_path):
    with pytest.raises(StoreError, match="missing"), temporary_folder(tmp_path / "missing"):
        pass
