"""Repositories that others use as well, and that can only be read."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from helpers import MODEL

if TYPE_CHECKING:
    from pathlib import Path

    from helpers import Repo


def test_the_store_of_a_shared_repository_is_for_the_group(two: Repo, tmp_path: Path) -> None:
    top = tmp_path / "shared"
    mask = os.umask(0o022)
    try:
        two.git("theta", "install", "--global")
        two.git("init", "--quiet", "--shared=group", str(top))
        two.git("push", "--quiet", str(top), "one:refs/heads/one")
        two.git("-C", str(top), "checkout", "--quiet", "one")
        two.git("-C", str(top), "theta", "status")
    finally:
        os.umask(mask)
    theta = top / ".git" / "theta"
    wrong = []
    for path in (theta, *theta.rglob("*")):
        mode = path.stat().st_mode
        written_once = path.relative_to(theta).parts[:1] in {("packs",), ("index",)}
        needed = 0o2070 if stat.S_ISDIR(mode) else 0o040 if written_once else 0o060
        if mode & needed != needed:
            wrong.append(f"{path.relative_to(theta)} {mode:o}")
    assert wrong == []
    assert theta.joinpath("index.sqlite3").exists()
    assert (top / MODEL).stat().st_mode & 0o777 == 0o644


def test_commands_that_only_look_work_where_nothing_can_be_stored(two: Repo) -> None:
    folder = two.path / ".git/theta/tmp"
    folder.rmdir()
    folder.touch()  # in the place of a folder, it keeps even the superuser from making files there
    data = two.write_model(seed=9)
    assert two.git("status", "--porcelain") == f" M {MODEL}"
    assert "14 modified" in two.git("diff")
    assert two.git("blame", MODEL)
    assert "14 modified" in two.git("theta", "status")
    with pytest.raises(AssertionError, match="cannot write"):
        two.git("add", MODEL)
    assert two.read() == data
    assert two.git("diff", "--cached", "--name-only") == ""
