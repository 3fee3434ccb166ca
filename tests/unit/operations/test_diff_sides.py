"""The versions in a diff need no temporary directory of the system, whose disk may be small."""

import subprocess
import tempfile

import numpy as np
import pytest
from reports import Reports

from git_theta_ext.operations.diff.sides import side_of_blob, side_of_file
from git_theta_ext.operations.workspace import Workspace


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A repository with a compressed file, on a machine without a temporary directory."""

    def refuse():
        raise FileNotFoundError("no temporary directory of the system")

    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    np.savez_compressed(tmp_path / "m.npz", w=np.arange(1000, dtype=np.float32))
    return tmp_path


def is_read(side):
    (parameter,) = side.manifest.parameters.values()
    return b"".join(side.values("w", parameter)) == np.arange(1000, dtype=np.float32).tobytes()


def test_a_file_that_git_stores_is_read(folder):
    command = ["git", "-C", folder, "hash-object", "-w", "m.npz"]
    oid = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    with Workspace.discover(Reports(), folder) as workspace:
        assert is_read(side_of_blob(workspace, oid, "m.npz", None))


def test_a_compressed_file_in_the_work_tree_is_read_also_if_the_stat_cache_knows_it(folder, monkeypatch):
    with Workspace.discover(Reports(), folder) as workspace:
        side = side_of_file(workspace, folder / "m.npz", "m.npz", None)
        content = side.manifest.to_bytes()
        monkeypatch.setattr("git_theta_ext.checkpoint.stat_cache.StatCache.get", lambda *_: content)
        known = side_of_file(workspace, folder / "m.npz", "m.npz", None)
        assert known.opened is None
        assert is_read(side)
        assert is_read(known)
