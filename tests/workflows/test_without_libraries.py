"""Everything but merge methods, statistics and cloud remotes works without torch and obstore."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from helpers import ATTENTION, EMBEDDING, MODEL, Repo, fork, model

if TYPE_CHECKING:
    from pathlib import Path

ABSENT = {"git", "obstore", "safetensors", "tensorstore", "torch"}
SITE = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in {ABSENT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
MERGE = "pip install 'git-theta-ext[merge]'"
CLOUD = "pip install 'git-theta-ext[cloud]'"


class Outside(Repo):
    """Runs every command in a process of its own: this one has imported torch."""

    def run(self, *args: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        return super().run(*args, check=check, **{"env": dict(os.environ), **options})

    def commit(self, message: str, *paths: str, by_filter: bool = True) -> str:
        return super().commit(message, *paths, by_filter=by_filter)


@pytest.fixture
def bare(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Return a repository, in a test whose processes find no optional library."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("COLUMNS", "200")  # readline, which pytest imports, sets it to 80
    for name in ABSENT:
        done = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, text=True, check=False)
        assert f"No module named '{name}'" in done.stderr
    return Outside(repo.path)


def test_a_model_is_tracked_compared_merged_pushed_cloned_and_kept_small(bare: Repo, tmp_path: Path) -> None:
    fork(bare)
    assert f"{ATTENTION[0]}" in bare.git("diff", "base", "main", "--", MODEL)
    bare.git("merge", "--quiet", "--no-edit", "side")
    merged = model(1, {ATTENTION[0]: 2, ATTENTION[1]: 3})
    assert bare.problems(MODEL, merged) == []
    bare.write_model(seed=1, changed={EMBEDDING: 9})
    assert EMBEDDING in bare.git("theta", "status")
    bare.git("theta", "add", MODEL)
    bare.git("reset", "--quiet", "--hard")
    for command in (("ls-files",), ("show", f"HEAD:{MODEL}"), ("gc",), ("fsck",), ("du",), ("env",)):
        assert bare.git("theta", *command), command
    bare.git("init", "--quiet", "--bare", str(tmp_path / "shared.git"))
    bare.git("push", "--quiet", str(tmp_path / "shared.git"), "main", "side")
    bare.git("theta", "install", "--global")
    bare.git("clone", "--quiet", "--branch", "main", str(tmp_path / "shared.git"), str(tmp_path / "clone"))
    clone = Outside(tmp_path / "clone")
    assert clone.problems(MODEL, merged) == []
    clone.git("checkout", "--quiet", "HEAD~")
    assert clone.problems(MODEL, model(1, {ATTENTION[0]: 2})) == []


def conflicting(repo: Repo) -> None:
    repo.write_model(seed=1)
    repo.commit("base")
    repo.git("checkout", "--quiet", "-b", "side")
    repo.write_model(seed=1, changed={EMBEDDING: 4, ATTENTION[1]: 3})
    repo.commit("side")
    repo.git("checkout", "--quiet", "-b", "ours", "HEAD~")
    repo.write_model(seed=1, changed={EMBEDDING: 5, ATTENTION[0]: 2})
    repo.commit("ours")


def test_a_merge_without_torch_leaves_in_conflict_only_what_a_method_needs_it_for(bare: Repo) -> None:
    conflicting(bare)
    bare.git("cherry-pick", "side")  # applies the change, exactly
    bare.git("reset", "--quiet", "--hard", "HEAD~")
    merged = bare.run("-c", "theta.merge.method=knots", "merge", "side", check=False)
    assert merged.returncode == 1
    assert f"merging by knots needs torch, which is not installed: {MERGE}" in merged.stdout + merged.stderr
    assert bare.run("commit", "--quiet", "--all", "--message", "no", check=False).returncode
    assert bare.git("ls-files", "--unmerged", MODEL)
    failed = bare.run("theta", "resolve", "--method", "knots", MODEL, check=False)
    assert failed.returncode == 15
    assert f"hint: {MERGE}" in failed.stderr
    bare.git("theta", "resolve", "--method", "average", MODEL)
    bare.git("commit", "--quiet", "--message", "merged")
    versions = [bare.git("show", f"{commit}:{MODEL}") for commit in ("HEAD", "side", "ours~")]
    embedding, attention, other = (
        [line for text in versions for line in text.splitlines() if name in line]
        for name in (EMBEDDING, ATTENTION[1], ATTENTION[0])
    )
    assert len(set(embedding)) == 3  # the average of both
    assert attention[0] == attention[1] != attention[2]
    assert other[0] == other[2] != other[1]
    assert "Theta-Merge" not in bare.git("log", "-1", "--format=%B")  # the rules were not carried out in full
    bare.git("reset", "--quiet", "--hard", "HEAD~")
    bare.git("merge", "--quiet", "--no-edit", "side")  # by average
    assert bare.git("show", f"HEAD:{MODEL}") == versions[0]


def test_what_needs_a_library_says_which_command_installs_it(bare: Repo) -> None:
    bare.write_model(seed=1)
    bare.commit("one")
    bare.git("init", "--quiet", "--bare", "../cloud.git")
    bare.git("remote", "add", "cloud", "../cloud.git")
    bare.git("config", "theta.remote.cloud.url", "s3://bucket/models")
    asked = {
        ("theta", "stats", "collect", MODEL, "--with", "x:y"): MERGE,
        ("theta", "push", "cloud"): CLOUD,
    }
    for command, hint in asked.items():
        done = bare.run(*command, check=False)
        assert done.returncode == 15, done.stderr
        assert f"hint: {hint}" in done.stderr
    pushed = bare.run("push", "cloud", "main", check=False)
    assert pushed.returncode, "the remote would have commits whose parameters are nowhere"
    assert CLOUD in pushed.stderr
    bare.git("push", "--no-verify", "cloud", "main")
    bare.git("tag", "same")
    assert "needs obstore" in bare.run("push", "cloud", "same").stderr  # commits that are there already: a warning
    code = "import git_theta_ext; git_theta_ext.load('HEAD:model.safetensors')"
    done = subprocess.run([sys.executable, "-c", code], cwd=bare.path, capture_output=True, text=True, check=False)
    assert 'LibraryError: framework="pt" needs torch, which is not installed' in done.stderr
