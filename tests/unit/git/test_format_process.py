"""The process that knows the formats of checkpoints."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.format_process import FormatProcess
from git_theta_ext.git.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ATTRIBUTES = """*.bin filter=theta
*.raw filter=theta theta-format=opaque
*.lfs filter=lfs theta-format=opaque
"n\\303\\266.*" filter=theta theta-format=npz
*.unset filter=theta -theta-format
"""


@pytest.fixture
def formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FormatProcess]:
    """Return the process of a repository with attributes."""
    monkeypatch.setenv("GIT_FLUSH", "0")  # git would not answer before its input ends
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitattributes").write_text(ATTRIBUTES)
    process = FormatProcess(Repository.discover(tmp_path))
    yield process
    process.close()


def test_paths_are_answered_by_one_process(formats: FormatProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"a.bin": None, "sub/b.raw": "opaque", "c.lfs": None, "nö.x": "npz", "d.unset": None, "e\n.raw": "opaque"}
    assert formats.format_of("a.bin") is None
    monkeypatch.setattr(subprocess, "Popen", None)  # no other process can be started
    assert {path: formats.format_of(path) for path in asked} == asked
    long = "d" * 200 + "/"
    assert formats.format_of(long * 15 + "f.raw") == "opaque"


def test_a_process_that_ended_is_an_error(formats: FormatProcess) -> None:
    formats.format_of("a.bin")
    assert formats._process is not None
    formats._process.kill()
    formats._process.wait()
    with pytest.raises(RepositoryError, match="check-attr"):
        formats.format_of("a.bin")
