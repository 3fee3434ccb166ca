"""``git theta du`` counts again whenever a version or a pack has changed, and only then."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from helpers import MODEL, Repo
from repository_changes import commit, stage

from git_theta_ext.operations.maintenance import usage_cache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows when all versions are counted."""
    seen: list[int] = []
    real = usage_cache.measure

    def measure(*args: object) -> object:
        seen.append(1)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(usage_cache, "measure", measure)
    return seen


def record(repo: Repo) -> Path:
    return repo.path / ".git/theta/usage.json"


def pack(repo: Repo) -> Path:
    return max((repo.path / ".git/theta/packs").glob("*/*"), key=lambda path: path.stat().st_size)


def damage_a_header(repo: Repo) -> None:
    pack(repo).chmod(0o644)
    pack(repo).write_bytes(b"?" * pack(repo).stat().st_size)


def change_the_record(repo: Repo) -> None:
    record(repo).write_bytes(record(repo).read_bytes().replace(b"F32", b"F16").replace(b"0", b"1"))


CHANGES: dict[str, Callable[[Repo], object]] = {
    "commit": commit,
    "stage": stage,
    "branch": lambda repo: repo.git("branch", "other"),
    "no record": lambda repo: record(repo).unlink(),
    "truncated": lambda repo: record(repo).write_bytes(record(repo).read_bytes()[:40]),
    "changed": change_the_record,
    "damage": damage_a_header,
    "lost pack": lambda repo: pack(repo).unlink(),
}


def test_versions_are_counted_again_after_any_change(two: Repo, counts: list[int]) -> None:
    for name, change in CHANGES.items():
        said = two.git("theta", "du", "--json")
        counts.clear()
        assert two.git("theta", "du", "--json") == said, name
        assert not counts, name
        change(two)
        said = two.git("theta", "du", "--json")
        assert counts, name
        record(two).unlink()
        assert json.loads(two.git("theta", "du", "--json")) == json.loads(said), name


def test_what_is_counted_for_some_paths_is_not_remembered(two: Repo, counts: list[int]) -> None:
    every = two.git("theta", "du", "--json")
    two.git("theta", "du", "--json", MODEL)
    assert two.git("theta", "du", "--json") == every
    assert len(counts) == 2


def test_what_earlier_code_counted_is_counted_again(
    two: Repo, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(usage_cache, "_COUNTING", usage_cache._COUNTING - 1)
        two.git("theta", "du", "--json")
    two.git("theta", "du", "--json")
    assert len(counts) == 2
