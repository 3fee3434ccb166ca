"""The space of a large file that a checkout replaces is freed by a process that nobody waits for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from git_theta_ext.operations.merge import replaced_files
from git_theta_ext.operations.merge.replaced_files import free_meanwhile, hold_open

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="the system has no /proc")

_SECONDS = 60
"""After which a process that should have ended has not."""


@pytest.fixture
def git(tmp_path: Path) -> Path:
    """Return a path that stands for a running git."""
    path = tmp_path / "git"
    path.mkdir()
    return path


def _file(path: Path) -> Path:
    path.write_bytes(b"weights")
    return path


def test_files_are_held_until_they_have_lost_their_names(tmp_path: Path, git: Path) -> None:
    files = [_file(tmp_path / name) for name in ("one", "other")]
    process = hold_open(files, str(git))
    assert process is not None
    held = {os.path.realpath(entry) for entry in Path(f"/proc/{process.pid}/fd").iterdir()}
    assert held >= {*map(str, files)}
    for file in files:
        assert process.poll() is None
        file.unlink()
    assert process.wait(_SECONDS) == 0


def test_files_that_stay_are_not_held_after_git_has_ended(tmp_path: Path, git: Path) -> None:
    process = hold_open([_file(tmp_path / "one")], str(git))
    assert process is not None
    assert process.poll() is None
    git.rmdir()
    assert process.wait(_SECONDS) == 0


def test_who_reads_the_output_of_a_merge_does_not_wait(tmp_path: Path, git: Path) -> None:
    file = _file(tmp_path / "one")
    code = f"from pathlib import Path; from {hold_open.__module__} import hold_open; "
    code += f"hold_open([Path({str(file)!r})], {str(git)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=_SECONDS)
    assert (done.stdout, done.stderr) == (b"", b"")
    git.rmdir()


def test_a_file_that_cannot_be_opened_is_not_held(tmp_path: Path, git: Path) -> None:
    (tmp_path / "link").symlink_to(_file(tmp_path / "one"))
    assert hold_open([tmp_path / "link"], str(git)) is None
    assert hold_open([tmp_path / "absent"], str(git)) is None


def test_only_large_files_that_drafts_replace_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[tuple[list[Path], str]] = []
    monkeypatch.setattr(replaced_files, "_LARGE", 7)
    monkeypatch.setattr(replaced_files, "hold_open", lambda files, git: held.append((files, git)))
    monkeypatch.setattr(replaced_files, "finished_draft", lambda _, manifest, __: manifest if manifest > 1 else None)
    _file(tmp_path / "large"), _file(tmp_path / "no draft"), (tmp_path / "small").write_bytes(b"tiny")
    workspace = SimpleNamespace(repo=SimpleNamespace(folder=tmp_path))
    manifests = {"large": 2, "no draft": 1, "small": 2, "absent": 2, "failed": None}
    merged = {name: SimpleNamespace(manifest=manifest) for name, manifest in manifests.items()}
    _file(tmp_path / "failed")
    free_meanwhile(workspace, "123-456-boot", tmp_path, merged)
    assert held == [([tmp_path / "large"], "/proc/123")]
    (tmp_path / "large").unlink()
    free_meanwhile(workspace, "123-456-boot", tmp_path, merged)
    assert len(held) == 1
