"""Names, trailers and addresses that somebody made up: nothing of them reaches the terminal or ends a command."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest
from helpers import Repo, WithHistory, safetensors

if TYPE_CHECKING:
    from pathlib import Path

NAME = "\x1b]0;title\x07\x1b[2Jw\r<script>"
MODEL = "dir\x1b[31m/m.safetensors"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
GITS_OWN = ("Auto-merging", "CONFLICT", "Automatic merge", " 1 file", "Merge made", " dir")


def versions(repo: Repo) -> None:
    def write(seed: int) -> None:
        data = bytes([seed]) * 400
        repo.write(safetensors({NAME: ("U8", (400,), data), "plain": ("F32", (100,), data)}), MODEL)

    write(1)
    repo.commit("base", by_filter=True)
    repo.git("branch", "side")
    write(2)
    repo.commit("main")
    repo.switch("side")
    write(3)
    repo.commit("side")
    repo.switch("main")


@pytest.fixture
def hostile(with_history: WithHistory) -> Repo:
    """Return a repository whose checkpoint and parameter have names that control a terminal."""
    return with_history(versions)


def said(repo: Repo, *words: str) -> str:
    """Run a command and return what it printed, without what git itself printed."""
    done = repo.run(*words, check=False, env={**os.environ, "GIT_THETA_MERGE": "conflict"})
    output = done.stdout + done.stderr
    assert "Traceback" not in output
    assert "is a bug" not in output
    return "\n".join(line for line in output.split("\n") if not line.startswith(GITS_OWN))


def test_names_that_control_a_terminal_are_escaped_wherever_they_are_printed(hostile: Repo) -> None:
    commands = [
        ("diff", "HEAD~1", "HEAD"),
        ("theta", "ls-files", "--params"),
        ("theta", "show", f"HEAD:{MODEL}"),
        ("theta", "status"),
        ("theta", "du", "--by", "parameter"),
        ("theta", "merge", "--plan", "side"),
        ("merge", "side"),
        ("theta", "resolve", MODEL),
        ("theta", "resolve", "--method=ours", MODEL),
        ("theta", "fsck"),
    ]
    for words in commands:
        assert not (found := CONTROL.findall(said(hostile, *words))), f"{words}: {found}"
    for path in (hostile.path / ".git" / "theta" / "packs").glob("*/*"):
        path.unlink()
    (hostile.path / MODEL).unlink()
    for words in (("theta", "fsck"), ("checkout", "--", MODEL), ("theta", "checkout", "-f")):
        output = said(hostile, *words)
        assert not CONTROL.search(output), words
    assert r"\x1b" in output


def test_trailers_that_anybody_can_write_are_errors(hostile: Repo) -> None:
    record = {"path": MODEL, "base": None, "sides": ["HEAD:a b", "z"], "commits": [], "rules": {"method": "average"}}
    trailers = [
        json.dumps(record | {"git-theta": "0"}),
        json.dumps(record | {"sides": ["--help", "-x"], "commits": ["--help"], "git-theta": "0"}),
        json.dumps(record | {"git-theta": "0", "versions": {"x": 0}}).replace('"x": 0', '"x": 1e999'),
        "[" * 3000,
    ]
    for trailer in trailers:
        message = f"x\n\nTheta-Merge: {trailer}"
        hostile.git("-c", f"core.hooksPath={os.devnull}", "commit", "--quiet", "--allow-empty", "--message", message)
        done = hostile.run("theta", "merge", "--replay", check=False)
        assert done.returncode == 10, done.stderr
        assert "record" in done.stderr


def test_nothing_is_written_through_a_link_that_leads_out_of_the_work_tree(hostile: Repo, tmp_path: Path) -> None:
    path = hostile.path / MODEL
    manifest = hostile.run("show", f"HEAD:{MODEL}").stdout
    outside = tmp_path / "outside" / path.name
    outside.parent.mkdir()
    outside.write_text(manifest)
    path.unlink()
    path.parent.rmdir()
    path.parent.symlink_to(outside.parent)
    hostile.write(f"{json.dumps(MODEL)}\n".encode(), ".git/theta/pending")  # as a checkout that was stopped leaves it
    for words in (("theta", "checkout"), ("theta", "add", MODEL), ("theta", "checkout", "--force")):
        hostile.run(*words, check=False)
        assert outside.read_text() == manifest, words


@pytest.mark.parametrize("setting", ["url", "endpoint"])
def test_no_password_is_printed_whatever_it_holds(hostile: Repo, setting: str) -> None:
    hostile.git("remote", "add", "origin", "https://me:p@ss@w@rd@host.invalid/x.git")
    hostile.git("config", "theta.remote.origin.url", "s3://bucket/x")
    hostile.git("config", f"theta.remote.origin.{setting}", "http://AKIA:p@ss@w@rd@127.0.0.1:1?token=t0k")
    for words in (("theta", "env"), ("theta", "env", "--json"), ("theta", "status"), ("theta", "push", "origin")):
        done = hostile.run(*words, check=False)
        for secret in ("w@rd", "p@ss", "t0k", "AKIA"):
            assert secret not in done.stdout + done.stderr, words
