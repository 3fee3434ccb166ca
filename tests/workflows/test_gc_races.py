"""``git theta gc`` beside other commands, killed at any moment, and on a full disk: nothing is ever lost."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import training
from helpers import MODEL, Repo, WithHistory
from kills import end_group

if TYPE_CHECKING:
    from collections.abc import Iterator

MOMENTS = [0.1, 0.2, 0.3, 0.45, *(pytest.param(n * 0.021, marks=pytest.mark.soak) for n in range(1, 41))]
"""Seconds after which a collection is killed: while it starts, writes, and removes."""

ROUNDS = [3, pytest.param(40, marks=pytest.mark.soak)]

GRACE = ["--grace", "0.001"]
"""A minute and a half: longer than between the moment when a tensor is stored and when git has its manifest."""


def versions(count: int, seed: int = 1) -> list[bytes]:
    """Return a model after some and some more steps."""
    model, found = training.fresh(seed, layers=2), []
    for step in range(count):
        found.append(training.saved(model))
        model = training.trained(model, 100 * seed + step)
    return found


def committed(repo: Repo, files: list[bytes], path: str = MODEL) -> dict[str, bytes]:
    """Commit versions of a file; returns commit to content."""
    commits = {}
    for data in files:
        repo.write(data, path)
        commits[repo.commit("a step", path)] = data
    return commits


def _four(repo: Repo) -> None:
    committed(repo, versions(4))


@pytest.fixture
def four(with_history: WithHistory) -> tuple[Repo, dict[str, bytes]]:
    """Return a repository with four versions of a model, and the content of each commit."""
    repo = with_history(_four)
    commits = repo.git("rev-list", "--reverse", "HEAD", "--", MODEL).split()
    return repo, dict(zip(commits, versions(4), strict=True))


@contextmanager
def collecting(repo: Repo, *options: str) -> Iterator[list[int]]:
    """Collect over and over until the block ends; the list holds the exit codes, for all of which 0 is expected."""
    codes: list[int] = []
    stop = threading.Event()
    failures: list[str] = []

    def loop() -> None:
        while not stop.is_set() or not (0 in codes or failures):  # the last one has the store for itself
            done = repo.run("theta", "gc", "--quiet", *options, check=False)
            codes.append(done.returncode)
            # A push recodes too, and who comes second is result so.
            if done.returncode and "another git theta gc" not in done.stderr:
                failures.append(done.stderr)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield codes
    finally:
        stop.set()
        thread.join()
    assert failures == []
    assert 0 in codes


def wrong(repo: Repo, commits: dict[str, bytes], path: str = MODEL) -> list[str]:
    """Say what is wrong with the store, or with any version in it; an empty list where all is well."""
    fsck = repo.run("theta", "fsck", "--full", check=False)
    found = training.differing(repo, {commit: {path: data} for commit, data in commits.items()})
    return found + ([fsck.stdout + fsck.stderr] if fsck.returncode else [])


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("command", [("add",), ("theta", "add")], ids=" ".join)
def test_collecting_beside_commits(repo: Repo, command: tuple[str, ...], rounds: int) -> None:
    commits = committed(repo, versions(2))
    files = versions(rounds + 2)
    with collecting(repo, *GRACE):
        for data in (*files[2:], *files[2:4]):  # the last ones are known already
            repo.write(data)
            repo.git(*command, MODEL)
            repo.git("commit", "--quiet", "--message", "a step")
            commits[repo.git("rev-parse", "HEAD")] = data
    assert wrong(repo, commits) == []


@pytest.mark.parametrize("rounds", ROUNDS)
def test_collecting_without_any_grace_beside_checkouts(four: tuple[Repo, dict[str, bytes]], rounds: int) -> None:
    repo, commits = four
    with collecting(repo, "--grace", "0", "--aggressive"):
        for _ in range(rounds):
            for commit, data in commits.items():
                repo.git("checkout", "--quiet", commit)
                assert repo.read() == data
                assert repo.git("status", "--porcelain") == ""
    assert wrong(repo, commits) == []


@pytest.mark.parametrize("rounds", ROUNDS)
def test_collecting_beside_pushes(repo: Repo, shared: Repo, rounds: int) -> None:
    commits: dict[str, bytes] = {}
    with collecting(repo, *GRACE):
        for data in versions(rounds):
            commits |= committed(repo, [data])
            repo.git("push", "--quiet", "origin", "main")
    assert wrong(repo, commits) == []
    repo.git("clone", "--quiet", str(shared.path), str(repo.path.parent / "clone"))
    copy = Repo(repo.path.parent / "clone")
    for commit, data in commits.items():
        copy.git("checkout", "--quiet", commit)
        assert copy.read() == data


@pytest.mark.parametrize("rounds", ROUNDS)
def test_pushes_from_two_work_trees_beside_each_other(repo: Repo, shared: Repo, rounds: int) -> None:
    repo.git("worktree", "add", "--quiet", "-b", "other", str(repo.path.parent / "linked"))
    places = {"main": repo, "other": Repo(repo.path.parent / "linked")}
    commits: dict[str, dict[str, bytes]] = {}

    def work(branch: str, seed: int) -> None:
        commits[branch] = {}
        for data in versions(rounds, seed):
            commits[branch] |= committed(places[branch], [data])
            places[branch].git("push", "--quiet", "origin", branch)

    threads = [threading.Thread(target=work, args=(branch, seed)) for seed, branch in enumerate(places)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = commits["main"] | commits["other"]
    assert len(made) == 2 * rounds
    assert wrong(repo, made) == []
    repo.git("clone", "--quiet", "--branch", "other", str(shared.path), str(repo.path.parent / "clone"))
    assert (repo.path.parent / "clone" / MODEL).read_bytes() == versions(rounds, 1)[-1]


def killed(repo: Repo, after: float, *options: str) -> None:
    """Start a collection and kill it after a time."""
    process = subprocess.Popen(
        ["git", "theta", "gc", *options], cwd=repo.path, stdout=subprocess.DEVNULL, start_new_session=True
    )
    time.sleep(after)
    end_group(process)


@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_during_a_collection(four: tuple[Repo, dict[str, bytes]], moment: float) -> None:
    repo, commits = four
    killed(repo, moment, "--grace", "0")
    assert wrong(repo, commits) == []
    repo.git("theta", "gc", "--quiet", "--grace", "0")
    result = json.loads(repo.git("theta", "gc", "--json", "--grace", "0"))
    assert (result["recoded"]["tensors"], result["redundant"], result["dead"], result["repacked"]) == ({}, [], [], 0)
    assert wrong(repo, commits) == []


@pytest.mark.parametrize("nbytes", [0, 1 << 14, 1 << 15])
def test_full_disk_during_a_collection(repo: Repo, nbytes: int) -> None:
    commits = committed(repo, versions(4))
    store = repo.path / ".git" / "theta"
    before = {path.name for path in (store / "packs").rglob("*")}
    done = subprocess.run(
        ["git", "theta", "gc", "--grace", "0"],
        cwd=repo.path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: (
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
            resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, nbytes)),
        ),
    )
    assert done.returncode != 0
    assert "error:" in done.stderr
    assert "git theta itself failed" not in done.stderr
    assert list((store / "tmp").iterdir()) == []
    assert {path.name for path in (store / "packs").rglob("*")} >= before
    assert wrong(repo, commits) == []
    repo.git("theta", "gc", "--quiet")
    assert wrong(repo, commits) == []
