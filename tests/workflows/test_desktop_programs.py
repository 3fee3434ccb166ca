"""What programs of a desktop run: git without the PATH of a shell and without a terminal, with options of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from helpers import EMBEDDING, MODEL, Repo, WithHistory, model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROGRAMS = ("git", "sh", "cat", "stat", "tail", "rm", "mv", "mktemp", "sed", "grep")
NOT_FOUND = "error: git-theta is not on PATH\nhint: run git theta install once in a shell that has it on PATH\n"


@pytest.fixture
def desktop(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a desktop: its PATH has git, and neither git-theta nor the Python that it needs."""
    folder = tmp_path / "desktop"
    folder.mkdir()
    for program in PROGRAMS:
        found = shutil.which(program)
        assert found is not None
        (folder / program).symlink_to(found)
    return os.environ | {"PATH": str(folder), "TERM": "dumb", "GIT_OPTIONAL_LOCKS": "0"}


@pytest.fixture
def forked(with_history: WithHistory) -> Repo:
    """Return a repository whose branches ``main`` and ``side`` have changed the same parameter."""

    def make(repo: Repo) -> None:
        repo.write_model()
        repo.commit("one")
        repo.git("branch", "side")
        repo.write_model(changed={EMBEDDING: 1})
        repo.commit("two")
        repo.switch("side")
        repo.write_model(changed={EMBEDDING: 2})
        repo.commit("side")
        repo.switch("main")

    return with_history(make)


def run(repo: Repo, env: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["git", *words], cwd=repo.path, env=env, capture_output=True, stdin=subprocess.DEVNULL, check=False
    )


def test_git_finds_the_program_where_install_found_it(forked: Repo, shared: Repo, desktop: dict[str, str]) -> None:
    assert shutil.which("git-theta", path=desktop["PATH"]) is None
    forked.write_model(changed={EMBEDDING: 3})
    for words in (
        ("status", "-z", "-uall"),
        ("add", MODEL),
        ("diff", "--cached"),
        ("commit", "--quiet", "--message", "three"),
        ("checkout", "--quiet", "side"),
        ("push", "--quiet", "origin", "main", "side"),
    ):
        done = run(forked, desktop, *words)
        assert (done.returncode, done.stderr) == (0, b"")
    assert forked.read() == model(changed={EMBEDDING: 2})
    assert forked.git("theta", "fsck", "--remote", "origin").endswith("has everything")
    assert run(forked, desktop, "merge", "--no-edit", "main").returncode == 0
    assert "Theta-Merge:" in forked.git("log", "-1", "--format=%B")


def test_a_program_that_is_nowhere_is_one_error_with_what_to_do(forked: Repo, desktop: dict[str, str]) -> None:
    forked.git("config", "theta.path", "/nowhere")
    head = forked.git("rev-parse", "HEAD")
    forked.write_model(changed={EMBEDDING: 3})
    for words in (("add", MODEL), ("diff",), ("show", "HEAD"), ("stash",), ("checkout", "side")):
        done = run(forked, desktop, *words)
        assert done.returncode
        assert done.stderr.decode().startswith(NOT_FOUND)
    assert forked.read() == model(changed={EMBEDDING: 3})
    assert forked.git("rev-parse", "HEAD") == head
    pushed = run(forked, desktop, "push", ".", "HEAD:refs/heads/other")
    assert pushed.returncode
    assert NOT_FOUND.splitlines()[1].encode() in pushed.stderr


@pytest.mark.parametrize("value", [None, ""])
def test_the_current_directory_is_not_searched(forked: Repo, desktop: dict[str, str], value: str | None) -> None:
    forked.git("config", "--unset", "theta.path")
    if value is not None:
        forked.git("config", "theta.path", value)
    program = forked.path / "git-theta"
    program.write_text("#!/bin/sh\ntouch started\n")
    program.chmod(0o755)
    assert run(forked, desktop, "checkout", "side").returncode
    assert not (forked.path / "started").exists()


def test_editors_get_text_of_both_sides(forked: Repo, desktop: dict[str, str]) -> None:
    """VS Code asks for one version of a file at a time, JupyterLab and GitHub Desktop for a patch."""
    forked.write_model(changed={EMBEDDING: 3})
    forked.git("add", MODEL)
    old, new = (run(forked, desktop, "show", "--textconv", f"{rev}:{MODEL}").stdout.decode() for rev in ("HEAD", ""))
    (line,) = set(new.splitlines()) - set(old.splitlines())
    assert line.startswith(EMBEDDING)
    assert b"\0" not in run(forked, desktop, "show", f"HEAD:{MODEL}").stdout
    numbers = run(forked, desktop, "diff", "--numstat", "-z", "HEAD", "--", MODEL).stdout
    assert numbers == f"1\t1\t{MODEL}\0".encode()
    options = ("-c", "core.fsmonitor=false", "diff", "--no-ext-diff", "--patch-with-raw", "-z", "--no-color")
    for versions in (("HEAD",), ("--cached",)):
        patch = run(forked, desktop, *options, *versions, "--", MODEL).stdout.decode()
        assert "Binary files" not in patch
        changed = [text for text in patch.splitlines() if text[:1] in {"+", "-"} and text[:3] not in {"+++", "---"}]
        assert [text[1:].startswith(EMBEDDING) for text in changed] == [True, True]


def test_status_without_locks_after_a_checkout_reads_no_model(forked: Repo, desktop: dict[str, str]) -> None:
    assert run(forked, desktop, "checkout", "--quiet", "side").returncode == 0
    trace = forked.path.parent / "trace"
    done = run(forked, desktop | {"GIT_TRACE2": str(trace)}, "--no-optional-locks", "status", "-z", "-uall")
    assert (done.returncode, done.stdout) == (0, b"")
    assert "filter-process" not in trace.read_text()


def test_a_conflicted_file_is_text_that_an_editor_can_show(forked: Repo, desktop: dict[str, str]) -> None:
    forked.git("config", "theta.merge.method", "conflict")
    done = run(forked, desktop | {"GIT_EDITOR": "true"}, "merge", "--no-edit", "side")
    assert done.returncode == 1
    shown = forked.read().decode()
    assert EMBEDDING in shown
    assert "<<<<<<<" not in shown
    stages = run(forked, desktop, "ls-files", "--unmerged", "-z").stdout.split(b"\0")[:-1]
    for stage in stages:
        assert run(forked, desktop, "cat-file", "-s", stage.split()[1].decode()).returncode == 0
    assert len(stages) == 3


def test_the_text_that_git_shows_is_not_stored_as_a_model(forked: Repo, desktop: dict[str, str]) -> None:
    """VS Code stages or unstages selected lines by hashing the text that it shows, with some lines replaced."""
    text = run(forked, desktop, "show", "--textconv", f"HEAD:{MODEL}").stdout
    hashed = subprocess.run(
        ["git", "hash-object", "--stdin", "-w", "--path", MODEL],
        cwd=forked.path,
        env=desktop,
        input=text,
        capture_output=True,
        check=False,
    )
    assert hashed.returncode
    assert b"parts of it cannot be staged" in hashed.stderr
    forked.write(text)
    assert run(forked, desktop, "status", "--porcelain").stdout == f" M {MODEL}\n".encode()
    assert run(forked, desktop, "add", MODEL).returncode
    said = forked.run("theta", "add", MODEL, check=False).stderr
    assert f"git checkout -- {MODEL}" in said
    assert forked.git("diff", "--cached", "--name-only") == ""


def test_lines_of_a_diff_cannot_be_applied_and_change_nothing(forked: Repo, desktop: dict[str, str]) -> None:
    """git gui and magit stage a part of a file by applying a patch of the text that they show."""
    forked.write_model(changed={EMBEDDING: 3})
    patch = run(forked, desktop, "diff", "--no-ext-diff", "--", MODEL).stdout
    assert patch.startswith(b"diff --git")
    applied = subprocess.run(
        ["git", "apply", "--cached", "-"], cwd=forked.path, env=desktop, input=patch, capture_output=True, check=False
    )
    assert applied.returncode
    assert forked.git("diff", "--cached", "--name-only") == ""


def test_a_side_that_an_editor_checks_out_settles_a_conflict(forked: Repo, desktop: dict[str, str]) -> None:
    forked.git("config", "theta.merge.method", "conflict")
    assert run(forked, desktop, "merge", "--no-edit", "side").returncode == 1
    refused = run(forked, desktop, "add", MODEL)
    assert refused.returncode
    assert f"hint: git theta resolve {MODEL}" in refused.stderr.decode()
    for words in (("checkout", "--theirs", MODEL), ("add", MODEL), ("commit", "--quiet", "--no-edit")):
        assert run(forked, desktop, *words).returncode == 0
    assert forked.read() == model(changed={EMBEDDING: 2})
