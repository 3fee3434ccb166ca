"""Temporary directories vanish with their process, or are removed by the next one."""

import os
import subprocess
import sys

import pytest

from git_theta_ext.util.folders import private_directory

_KILLED = """
import os, signal
from git_theta_ext.util.folders import private_directory
with private_directory("job."):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_what_a_killed_process_left_is_removed(temporary):
    subprocess.run([sys.executable, "-c", _KILLED], env={"TMPDIR": str(temporary)}, check=False)
    (left,) = temporary.iterdir()
    with private_directory("job.") as path:
        assert list(temporary.iterdir()) == [path]
        assert path != left
    assert list(temporary.iterdir()) == []


def test_what_others_use_and_other_files_stay(temporary):
    (temporary / "other").mkdir()
    (temporary / "job.file").touch()
    (temporary / "job.link").symlink_to(temporary / "other")
    with private_directory("job.") as one, private_directory("job.") as two:
        assert one != two
        assert one.stat().st_mode & 0o077 == 0
        (one / "file").touch()
        (two / "file").touch()
    assert {path.name for path in temporary.iterdir()} == {"other", "job.file", "job.link"}


def test_a_directory_that_another_process_removes_before_it_is_locked_is_made_again(temporary, monkeypatch):
    real, removed = os.open, []

    def late(path, *arguments):
        if not removed:
            removed.append(path)
            path.rmdir()
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", late)
    with private_directory("job.") as path:
        assert path.is_dir()
        assert path not in removed
