"""A collection that starts by itself behind ``git add``."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import training
from helpers import MODEL, Repo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY = 24 * 3600


def theta(repo: Repo) -> Path:
    return repo.path / ".git" / "theta"


def packs(repo: Repo) -> set[Path]:
    return {path for path in (theta(repo) / "packs").rglob("*") if path.is_file()}


def stored(repo: Repo) -> int:
    """Return the size of all packs; the collection may remove one that was listed."""
    nbytes = 0
    for path in packs(repo):
        with suppress(FileNotFoundError):
            nbytes += path.stat().st_size
    return nbytes


def soon(holds: Callable[[], bool]) -> bool:
    """Wait until something holds, though not for ever."""
    deadline = time.monotonic() + 60
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


@pytest.fixture
def versions(repo: Repo) -> list[bytes]:
    """Commit three versions of a model, none of which makes a collection due; returns them and two more."""
    model, found = training.fresh(1), []
    for step in range(5):
        found.append(training.saved(model))
        model = training.trained(model, step)
    for data in found[:3]:
        repo.write(data)
        repo.commit("a step")
    return found


def test_enough_that_is_new_starts_a_collection_in_the_background(repo: Repo, versions: list[bytes]) -> None:
    before = stored(repo)
    repo.git("config", "theta.gcAuto", "100k")
    repo.write(versions[3])
    repo.git("add", MODEL)
    assert soon(lambda: stored(repo) < 0.9 * before)
    repo.git("commit", "--quiet", "--message", "a step")
    assert soon(lambda: not (theta(repo) / "gc.log").exists())
    repo.git("theta", "fsck", "--full")
    for number in range(4):
        commit = repo.git("rev-parse", f"HEAD~{3 - number}")
        assert training.differing(repo, {commit: {MODEL: versions[number]}}) == []


@pytest.mark.parametrize("limit", [None, "0", "1g"])
def test_nothing_starts_where_nothing_is_due(repo: Repo, versions: list[bytes], limit: str | None) -> None:
    if limit:
        repo.git("config", "theta.gcAuto", limit)
    before = packs(repo)
    repo.write(versions[3])
    repo.git("add", MODEL)
    assert before < packs(repo)
    assert not (theta(repo) / "gc.lock").exists()


def test_a_failure_is_written_down_and_keeps_the_next_from_starting_for_a_day(
    repo: Repo, versions: list[bytes]
) -> None:
    log = theta(repo) / "gc.log"
    victim = max(packs(repo), key=lambda path: path.stat().st_size)
    victim.chmod(0o644)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    victim.write_bytes(data)
    repo.git("config", "theta.gcAuto", "1")
    repo.write(versions[3])
    repo.git("add", MODEL)
    assert soon(log.exists)
    assert soon(lambda: victim.name in log.read_text())

    (theta(repo) / "gc.lock").unlink()
    repo.write(versions[4])
    repo.git("add", MODEL)
    assert not (theta(repo) / "gc.lock").exists()

    past = time.time() - DAY - 60
    os.utime(log, (past, past))
    repo.write(versions[3])
    repo.git("add", MODEL)
    assert soon(lambda: log.stat().st_mtime > past + 60)


def test_a_collection_that_succeeds_takes_the_note_of_an_earlier_failure_away(
    repo: Repo, versions: list[bytes]
) -> None:
    assert versions
    log = theta(repo) / "gc.log"
    log.write_text("no space left on device\n")
    repo.git("theta", "gc", "--quiet")
    assert not log.exists()
