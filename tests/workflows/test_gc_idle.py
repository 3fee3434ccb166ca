"""``git theta gc`` does not read history again if nothing has changed since it had nothing to do, and only then."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from repository_changes import commit, forget_the_second_version, stage

from git_theta_ext.operations.maintenance import gc as collection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from helpers import Repo

LONG_AGO = 1_000_000_000


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows when the manifests of history are read."""
    seen: list[int] = []
    real = collection.live_digests

    def live_digests(*args: object, **kwargs: object) -> object:
        seen.append(1)
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(collection, "live_digests", live_digests)
    return seen


def gc(repo: Repo, *args: str) -> dict[str, object]:
    result = json.loads(repo.git("theta", "gc", "--json", *args))
    assert isinstance(result, dict)
    return result


def idle(repo: Repo) -> Path:
    return repo.path / ".git/theta/idle.json"


def until_idle(repo: Repo) -> dict[str, object]:
    """Collect until a collection changes nothing, and return what that one says."""
    for _ in range(4):
        gc(repo)
        if idle(repo).exists():
            idle(repo).unlink()
            return gc(repo)
    raise AssertionError("each collection changes something")


def test_nothing_is_read_again_if_nothing_has_changed(two: Repo, readings: list[int]) -> None:
    said = until_idle(two)
    readings.clear()
    assert gc(two) == said
    assert gc(two, "--dry-run") == {**said, "dry_run": True}
    assert not readings
    gc(two, "--aggressive")
    assert readings


def lose_a_pack(repo: Repo) -> None:
    next(path for path in (repo.path / ".git/theta/packs").rglob("*") if path.is_file()).unlink()


def lose_the_index(repo: Repo) -> None:
    for path in (repo.path / ".git/theta").glob("index.sqlite3*"):
        path.unlink()


def unpack(repo: Repo) -> None:
    repo.git("gc", "--quiet", "--prune=now")


def damage_the_record(repo: Repo) -> None:
    idle(repo).write_bytes(idle(repo).read_bytes()[:-10])


def change_a_type(repo: Repo) -> None:
    idle(repo).write_text(json.dumps({**json.loads(idle(repo).read_text()), "waiting": 3}))


def change_the_format(repo: Repo) -> None:
    idle(repo).write_text(json.dumps({**json.loads(idle(repo).read_text()), "format": 1}))


CHANGES: dict[str, Callable[[Repo], object]] = {
    "branch": lambda repo: repo.git("branch", "other"),
    "reflog": lambda repo: repo.git("reflog", "expire", "--expire=now", "--all"),
    "setting": lambda repo: repo.git("config", "theta.chainDepth", "2"),
    "stage": stage,
    "commit": commit,
    "objects": unpack,
    "index": lose_the_index,
    "truncated": damage_the_record,
    "type": change_a_type,
    "format": change_the_format,
    "no record": lambda repo: idle(repo).unlink(),
    "pack": lose_a_pack,
}


def test_history_is_read_again_after_any_change(two: Repo, readings: list[int]) -> None:
    for name, change in CHANGES.items():
        until_idle(two)
        change(two)
        readings.clear()
        gc(two)
        assert readings, name


def test_unreachable_tensors_are_removed_when_they_are_old_enough(two: Repo, readings: list[int]) -> None:
    forget_the_second_version(two)
    said = until_idle(two)
    assert said["kept_for_grace_bytes"]
    readings.clear()
    assert gc(two) == said
    assert not readings
    for path in (two.path / ".git/theta/packs").rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    assert gc(two)["removed_bytes"]
    two.git("theta", "fsck", "--full")
    assert gc(two)["kept_for_grace_bytes"] == 0


def test_no_grace_removes_what_a_record_says_is_waiting(two: Repo) -> None:
    forget_the_second_version(two)
    until_idle(two)
    for path in (two.path / ".git/theta/packs").rglob("*"):
        os.utime(path, (path.stat().st_mtime - 60, path.stat().st_mtime - 60))
    assert gc(two, "--grace", "0")["removed_bytes"]


def test_a_wrong_record_removes_nothing(two: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    until_idle(two)
    state = json.loads(idle(two).read_text())["state"]
    commit(two)
    monkeypatch.setattr(collection, "state_of", lambda _: state)
    gc(two, "--grace", "0")
    two.git("theta", "fsck", "--full")
