"""Several checkpoints in one diff: git's first call of the driver compares all, and the others get the answers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from helpers import ATTENTION, EMBEDDING, Repo, WithHistory, model

from git_theta_ext.model.manifest import MAGIC
from git_theta_ext.operations.diff import git_call

if TYPE_CHECKING:
    from subprocess import CompletedProcess

FILES = ("a.safetensors", "b.safetensors", "c.safetensors", "d.safetensors")
TIMES = os.environ | {"PYTHONPROFILEIMPORTTIME": "1"}


def _versions(repo: Repo) -> None:
    for n, path in enumerate(FILES):
        repo.write(model(n), path)
    repo.commit("base")
    for n, path in enumerate(FILES):
        repo.write(model(n, {EMBEDDING: 10 + n}), path)
    repo.git("mv", FILES[3], "renamed.safetensors")
    repo.commit("next")


def _drivers(done: CompletedProcess[str]) -> int:
    """Return how many calls of the driver compared."""
    modules = [line.rpartition(" ")[2] for line in done.stderr.splitlines()]
    return modules.count("git_theta_ext.operations.diff.driver")


def _answered_by_python(done: CompletedProcess[str]) -> int:
    """Return how many calls of the driver started Python only to give a kept answer."""
    modules = [line.rpartition(" ")[2] for line in done.stderr.splitlines()]
    return modules.count("git_theta_ext.git.answers") - modules.count("git_theta_ext.cli.dispatch")


def _alone(repo: Repo, *words: str) -> str:
    """Return the diff if each call compares its own file; an option whose effect is unknown leads to that."""
    done = repo.run("diff", "--ws-error-highlight=none", *words, env=TIMES)
    assert _drivers(done) == done.stdout.count("diff --theta")
    return done.stdout


@pytest.mark.parametrize("words", [["HEAD~", "HEAD"], ["HEAD~..HEAD", "--", "[a-c].*"]], ids=" ".join)
def test_one_call_of_the_driver_compares_all_checkpoints(with_history: WithHistory, words: list[str]) -> None:
    repo = with_history(_versions)
    done = repo.run("diff", *words, env=TIMES)
    assert (_drivers(done), _answered_by_python(done)) == (1, 0)
    assert done.stdout.count("1 modified, 13 unchanged") == (4 if len(words) == 2 else 3)
    assert done.stdout == _alone(repo, *words)
    assert not any((repo.path / ".git/theta/diffing/answers").iterdir())
    former = repo.run("-c", "diff.theta.command=git-theta diff-driver", "diff", *words, env=TIMES)
    assert former.stdout == done.stdout
    assert (_drivers(former), _answered_by_python(former)) == (1, done.stdout.count("diff --theta") - 1)


def test_files_of_the_work_tree_are_compared_by_one_call(with_history: WithHistory) -> None:
    repo = with_history(_versions)
    for n, path in enumerate(FILES[:3]):
        repo.write(model(n, {EMBEDDING: 20 + n, ATTENTION[0]: 20}), path)
    (repo.path / "sub").mkdir()
    done = repo.run("-C", "sub", "diff", "--", "../a.*", "../b.*", env=TIMES)
    assert _drivers(done) == 1
    assert done.stdout.count("2 modified, 12 unchanged") == 2
    assert done.stdout == _alone(repo, "--", *FILES[:2])
    repo.git("add", "--all")
    done = repo.run("diff", "--cached", env=TIMES)
    assert (_drivers(done), done.stdout.count("2 modified, 12 unchanged")) == (1, 3)


def test_what_a_call_reports_is_reported_by_the_call_for_the_file(with_history: WithHistory) -> None:
    repo = with_history(_versions)
    (repo.path / "broken").write_bytes(MAGIC + b"broken\n" * 20)
    oid = repo.git("hash-object", "-w", "--no-filters", "broken")
    repo.git("update-index", "--cacheinfo", f"100644,{oid},{FILES[1]}")
    found = []
    for option in ("--no-color", "--ws-error-highlight=none"):
        done = repo.run("diff", option, "--cached", "HEAD~", check=False, env=TIMES)
        assert _drivers(done) == 2
        messages = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
        found.append((done.returncode, done.stdout, messages))
    assert found[0] == found[1]
    assert found[0][0] == 128
    assert any("manifest" in message for message in found[0][2])


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("show", "HEAD"),
        ("log", "-p"),
        ("diff", "--stat"),
        ("diff", "-R"),
        ("diff", "--no-index", "a", "b"),
        ("diff", "--output=file"),
        ("diff", "--relative", "--", "x"),
    ],
    ids=" ".join,
)
def test_commands_whose_files_are_not_certain_are_left_alone(words: tuple[str, ...]) -> None:
    assert git_call.compared_by(words) is None
