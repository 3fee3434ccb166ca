"""A workspace opens its store once, when it is first asked for, and closes it."""

import sqlite3
import subprocess

import pytest
from reports import Reports

from git_theta_ext.operations.workspace import Workspace


@pytest.fixture
def folder(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


def test_the_store_is_opened_once_and_closed(folder):
    with Workspace.discover(Reports(), folder) as workspace:
        store = workspace.store
        assert workspace.store is store
        store.index.packs()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        store.index._db.execute("SELECT 1")


def test_a_store_that_nobody_asks_for_is_not_made(folder):
    with Workspace.discover(Reports(), folder) as workspace:
        assert workspace.settings.threads == 0
    assert not (folder / ".git" / "theta").exists()
