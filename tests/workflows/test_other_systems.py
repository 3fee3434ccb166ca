"""Everyday work on systems that lack what Linux has, each thing taken away from all processes that git starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers import ATTENTION, MODEL, Repo, model

pytestmark = pytest.mark.portable

MACOS = "/proc,renameat2,leases,extended attributes,os.O_TMPFILE,os.sched_getaffinity"
LACKING = {
    "proc": "/proc",
    "renameat2": "renameat2",
    "nameless files": "os.O_TMPFILE",
    "offsets": "os.pread,os.pwrite",
    "locks": "fcntl",
    "all that macOS lacks": MACOS,
    "all that Windows lacks": "/proc,posix",
    "all": f"{MACOS},os.pread,os.pwrite,signal.SIGHUP,fcntl",
}


@pytest.mark.parametrize("lacking", LACKING)
def test_add_commit_checkout_and_merge(lacking: str, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "systems"), prepend=os.pathsep)
    monkeypatch.setenv("GIT_THETA_TEST_WITHOUT", LACKING[lacking])
    repo.write_model(seed=1)
    repo.git("add", MODEL)
    repo.git("commit", "--quiet", "--message", "base")
    repo.git("checkout", "--quiet", "-b", "side")
    repo.write_model(seed=1, changed={ATTENTION[1]: 3})
    repo.git("commit", "--quiet", "--all", "--message", "side")
    repo.git("checkout", "--quiet", "main")
    assert (repo.path / MODEL).read_bytes() == model(1)
    repo.write_model(seed=1, changed={ATTENTION[0]: 2})
    repo.git("commit", "--quiet", "--all", "--message", "main")
    assert ATTENTION[0] in repo.git("diff", "HEAD~", "HEAD")
    repo.git("merge", "--quiet", "side")
    merged = model(1, {ATTENTION[0]: 2, ATTENTION[1]: 3})
    assert (repo.path / MODEL).read_bytes() == merged
    assert repo.problems(MODEL, merged) == []
