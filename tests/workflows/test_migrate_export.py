"""``git theta migrate export`` leads back to Git LFS and to plain git."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from helpers import MODEL, Repo, model
from histories import changed_metadata, commit_map, copy_of, drop_backup, lfs_history, plain_history, tree

if TYPE_CHECKING:
    from pathlib import Path

INCLUDE = ("theta", "migrate", "import", "--include", "*.safetensors", "--everything")


def trees(repo: Repo) -> dict[str, dict[str, tuple[str, str]]]:
    """Return the files of all commits."""
    return {commit: tree(repo, commit) for commit in repo.git("rev-list", "--branches").split()}


def models(repo: Repo) -> dict[str, dict[str, tuple[str, str]]]:
    """Return the files of all commits but ``.gitattributes``."""
    return {
        commit: {path: entry for path, entry in files.items() if not path.endswith(".gitattributes")}
        for commit, files in trees(repo).items()
    }


def test_to_plain_git_and_back_every_blob_is_as_it_was(tmp_path: Path) -> None:
    repo = copy_of(plain_history, tmp_path / "repo")
    before = trees(repo)
    repo.git(*INCLUDE)
    there = commit_map(repo)
    drop_backup(repo)
    data = json.loads(repo.git("theta", "migrate", "export", "--to", "plain", "--everything", "--json"))
    back = commit_map(repo)
    assert (data["versions"], data["left"]) == (6, [])  # git stores the empty file itself
    assert changed_metadata(repo) == []
    assert trees(repo) == {back[there[commit]]: files for commit, files in before.items()}
    assert repo.read() == model(5)
    assert repo.git("status", "--porcelain") == ""


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
def test_to_git_lfs_the_pointers_are_those_that_were_there(tmp_path: Path) -> None:
    repo, _ = copy_of(lfs_history, tmp_path / "repo")
    before = models(repo)
    repo.git(*INCLUDE)
    there = commit_map(repo)
    drop_backup(repo)
    shutil.rmtree(repo.path / ".git/lfs")
    repo.git("theta", "migrate", "export", "--to", "lfs", "--everything")
    back, after = commit_map(repo), models(repo)
    first = repo.git("rev-list", "--max-parents=0", "main")
    for commit, files in before.items():
        now = after[back[there[commit]]]
        # The first version was in plain git.
        others = {path for path, entry in files.items() if now[path] != entry}
        assert others == ({MODEL} if back[there[commit]] == first else set())
    assert repo.git("cat-file", "blob", f"main:{MODEL}").startswith("version https://git-lfs")
    assert repo.git("check-attr", "filter", "--", MODEL).endswith(": lfs")
    assert repo.read() == model(6)
    assert repo.git("status", "--porcelain") == ""


def test_commits_before_the_first_model_keep_their_signatures(repo: Repo) -> None:
    def sign(command: str) -> None:
        text = repo.run("cat-file", "commit", "HEAD").stdout.replace("\n\n", f"\ngpgsig {command}\n\n", 1)
        repo.git("reset", "--soft", repo.git("hash-object", "-t", "commit", "-w", "--stdin", input=text))

    repo.git("update-ref", "-d", "HEAD")
    repo.git("rm", "-rq", "--cached", ".")
    repo.git("commit", "-q", "--allow-empty", "-m", "no model yet")
    sign("first")
    first = repo.git("rev-parse", "HEAD")
    repo.write_model(seed=1)
    repo.git("add", ".")
    repo.git("commit", "-qm", "a model")
    sign("second")
    done = repo.run("theta", "migrate", "export", "--to", "plain", "--json")
    assert json.loads(done.stdout)["signatures"] == 1
    assert repo.git("rev-parse", "HEAD~1") == first


def test_a_version_without_parameters_stops_it(tmp_path: Path) -> None:
    repo = copy_of(plain_history, tmp_path / "repo")
    repo.git(*INCLUDE)
    drop_backup(repo)
    before = repo.git("for-each-ref")
    shutil.rmtree(repo.path / ".git/theta/packs")
    done = repo.run("theta", "migrate", "export", "--to", "plain", check=False)
    assert done.returncode == 7
    assert repo.git("for-each-ref") == before
