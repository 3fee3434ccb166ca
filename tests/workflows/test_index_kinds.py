"""Every kind of index and object name that git knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers import MODEL, Repo, model, tensors

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "command",
    [
        ["update-index", "--index-version", "4"],
        ["update-index", "--index-version", "2"],
        ["update-index", "--split-index"],
        ["update-index", "--force-untracked-cache"],
        ["config", "index.skipHash", "true"],
        ["config", "core.fsmonitor", "false"],
        ["config", "feature.manyFiles", "true"],
        ["config", "core.sharedRepository", "group"],
    ],
    ids=" ".join,
)
def test_checkout_with_index(two: Repo, command: list[str]) -> None:
    two.git(*command)
    two.git("checkout", "--quiet", "one")
    assert two.problems(MODEL, model(1)) == []
    two.git("checkout", "--quiet", "two")
    assert two.problems(MODEL, model(2)) == []
    two.git("fsck", "--strict")


def test_intent_to_add_beside(two: Repo) -> None:
    two.write(b"later", "later.txt")
    two.git("add", "--intent-to-add", "later.txt")
    two.git("checkout", "--quiet", "one")
    assert two.read() == model(1)
    assert two.cleans("status") == 0


def test_index_of_many_files(two: Repo) -> None:
    blob = two.git("hash-object", "-w", "--stdin", input="")
    lines = "".join(f"100644 {blob} 0\tmany/{n // 100:03}/{n:05}.txt\n" for n in range(20_000))
    two.git("update-index", "--index-info", input=lines)
    two.git("commit", "--quiet", "--message", "many")
    two.git("sparse-checkout", "set", "--no-cone", "/*", "!many")
    two.git("checkout", "--quiet", "HEAD~1", "--", MODEL)
    two.git("checkout", "--quiet", "one", "--", MODEL)
    assert two.read() == model(1)
    assert two.cleans("status") == 0


@pytest.fixture
def sha256(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "sha256")
    made.path.mkdir()
    made.git("init", "--quiet", "--object-format=sha256")
    made.git("theta", "install", "--global")
    made.git("theta", "track", "*.safetensors")
    made.write_model(seed=1)
    made.commit("one", by_filter=True)
    made.git("tag", "one")
    made.write_model(seed=2)
    made.commit("two")
    return made


def test_sha256_repository_checkout(sha256: Repo) -> None:
    sha256.git("checkout", "--quiet", "one")
    assert sha256.problems(MODEL, model(1)) == []


def test_sha256_repository_merge_and_diff(sha256: Repo) -> None:
    first, second = list(tensors())[:2]
    sha256.git("checkout", "--quiet", "-b", "side", "one")
    sha256.write_model(seed=1, changed={first: 5})
    sha256.commit("side")
    assert first in sha256.git("diff", "one", "side")
    sha256.git("checkout", "--quiet", "-b", "other", "one")
    sha256.write_model(seed=1, changed={second: 6})
    sha256.commit("other")
    sha256.git("merge", "--quiet", "--no-edit", "side")
    assert sha256.problems(MODEL, model(1, {first: 5, second: 6})) == []


def test_sha256_repository_push_and_clone(sha256: Repo, tmp_path: Path) -> None:
    sha256.git("init", "--quiet", "--bare", "--object-format=sha256", str(tmp_path / "shared.git"))
    sha256.git("push", "--quiet", str(tmp_path / "shared.git"), "main", "one")
    Repo(tmp_path).git("clone", "--quiet", "shared.git", "clone")
    assert Repo(tmp_path / "clone").problems(MODEL, model(2)) == []
