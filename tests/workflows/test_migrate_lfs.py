"""``git theta migrate import`` rewrites a history of Git LFS, whose objects are on this machine or on a server."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from helpers import MODEL, Repo, model
from histories import changed_metadata, copy_of, lfs_history, tree, wrong_versions

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
INCLUDE = ("theta", "migrate", "import", "--include", "*.safetensors", "--everything")


def filters(repo: Repo, *paths: str) -> list[str]:
    return [line.rsplit(" ", 1)[1] for line in repo.git("check-attr", "filter", "--", *paths).splitlines()]


def lose(repo: Repo, data: bytes) -> Path:
    import hashlib

    name = hashlib.sha256(data).hexdigest()
    path = repo.path / ".git/lfs/objects" / name[:2] / name[2:4] / name
    path.unlink()
    return path


def test_a_history_that_moved_to_git_lfs_gives_back_every_version(tmp_path: Path) -> None:
    repo, was = copy_of(lfs_history, tmp_path / "repo")
    assert repo.read() == model(6)
    before = repo.git("rev-parse", "main")
    data = json.loads(repo.git(*INCLUDE, "--json"))
    assert (data["versions"], data["files"], data["left"]) == (7, 3, [])
    assert changed_metadata(repo) == []
    assert wrong_versions(repo, was) == []
    assert repo.problems(MODEL, model(6)) == []
    assert repo.problems("sub/one.safetensors", model(3)) == []
    assert filters(repo, MODEL, "sub/one.safetensors", "empty.safetensors", "a.bin") == ["theta"] * 3 + ["lfs"]
    assert tree(repo, "main")["a.bin"] == tree(repo, before)["a.bin"]
    shutil.rmtree(repo.path / ".git/lfs")
    repo.git("checkout", "--quiet", "side")
    assert repo.problems(MODEL, model(5)) == []


def test_objects_that_are_missing_here_are_fetched(tmp_path: Path) -> None:
    repo, was = copy_of(lfs_history, tmp_path / "repo")
    repo.git("init", "--quiet", "--bare", str(tmp_path / "server.git"))
    repo.git("remote", "add", "origin", str(tmp_path / "server.git"))
    repo.git("push", "--quiet", "origin", "main", "side")
    shutil.rmtree(repo.path / ".git/lfs/objects")
    planned = json.loads(repo.git(*INCLUDE, "--dry-run", "--json"))
    assert (planned["versions"], planned["left"], planned["fetched"]["objects"]) == (7, [], 5)
    assert not (repo.path / ".git/lfs/objects").exists()
    repo.git("branch", "--quiet", "-D", "side")
    done = repo.run(*INCLUDE)
    assert "branches of origin stay as they are, because there is no local branch: side" in done.stderr
    assert "fetched 5 objects of Git LFS" in done.stdout
    assert wrong_versions(repo, was) == []


def test_objects_that_nobody_has_stop_the_migration_or_are_left(tmp_path: Path) -> None:
    repo, was = copy_of(lfs_history, tmp_path / "repo")
    before = repo.git("for-each-ref")
    lose(repo, model(4))
    done = repo.run(*INCLUDE, check=False)
    assert done.returncode == 7
    assert "1 object of Git LFS cannot be fetched, of model.safetensors" in done.stderr
    assert "--allow-missing" in done.stderr
    assert repo.git("for-each-ref") == before
    data = json.loads(repo.git(*INCLUDE, "--allow-missing", "--json"))
    assert [left["path"] for left in data["left"]] == [MODEL]
    assert repo.git("cat-file", "blob", f"main~1:{MODEL}").startswith("version https://git-lfs")
    assert wrong_versions(repo, was) == []


def test_a_damaged_object_is_not_taken(tmp_path: Path) -> None:
    repo, _ = copy_of(lfs_history, tmp_path / "repo")
    before = repo.git("for-each-ref")
    path = lose(repo, model(4))
    path.write_bytes(model(7))
    done = repo.run(*INCLUDE, check=False)
    assert done.returncode == 6
    assert f"{MODEL}: the object {path.name} of Git LFS is damaged" in done.stderr
    assert repo.git("for-each-ref") == before
