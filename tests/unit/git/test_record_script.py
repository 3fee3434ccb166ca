"""Records of merges that the shell of the hook adds to a message."""

from __future__ import annotations

import os
import subprocess
from importlib import resources
from pathlib import Path

import pytest
from helpers import become_git

from git_theta_ext.git.answer_script import RECORDS, drop_scripts
from git_theta_ext.git.answers import calling_git
from git_theta_ext.git.hooks import PREPARE_COMMIT_MSG
from git_theta_ext.git.record_script import drop_records, write_records

KEY, RECORD = "Theta-Merge", "it's a model.bin by average (digest 12)"
PYTHON = "python\n"
"""What the hook does if it starts Python."""
HOOK = "git_theta_ext.hooks"


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the top of a work tree in which this process is the git that merges, with a staged file."""
    become_git(tmp_path, monkeypatch)
    Path("a/b").mkdir(parents=True)
    Path("a/b/model.bin").write_text("merged")
    subprocess.run(["git", "add", "a"], check=True)
    Path(".git/theta").mkdir()
    Path(".git/theta/merge.json").touch()
    Path("bin").mkdir()
    Path("bin/git-theta").write_text(f'#!/bin/sh\necho {PYTHON.strip()} >"$3"\n')
    Path("bin/git-theta").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return tmp_path


def staged(path: str = "a/b/model.bin") -> dict[str, str]:
    oid = subprocess.run(["git", "hash-object", "a/b/model.bin"], check=True, capture_output=True, text=True).stdout
    return {path: oid.strip()}


def leave(files: dict[str, str] | None = None) -> Path:
    """Leave a record for the hook, and return the script."""
    write_records(Path(".git"), calling_git() or "", KEY, [RECORD], staged() if files is None else files)
    return Path(".git", *RECORDS, str(os.getpid()))


def message_of(
    before: str = "Merge branch 'a'\n", words: tuple[str, ...] = ("merge",), *, configured: bool = False
) -> str:
    """Run the hook as git does, from a file or from its configuration, and return the message."""
    Path(".git/MERGE_MSG").write_text(before)
    command = PREPARE_COMMIT_MSG.command
    hook = ["-c", f'{command} "$@"', command] if configured else [str(resources.files(HOOK) / "prepare-commit-msg")]
    subprocess.run(["/bin/sh", *hook, ".git/MERGE_MSG", *words], check=True)
    return Path(".git/MERGE_MSG").read_text()


@pytest.mark.parametrize("configured", [False, True], ids=["file", "configuration"])
@pytest.mark.parametrize("end", ["\n", ""], ids=["whole line", "line without end"])
@pytest.mark.usefixtures("top")
def test_the_shell_adds_records_once(end: str, configured: bool) -> None:
    assert message_of(configured=configured) == PYTHON
    script = leave()
    added = message_of(f"Merge branch 'a'{end}", configured=configured)
    assert added == f"Merge branch 'a'\n\n{KEY}: {RECORD}\n"
    assert not script.exists()
    assert message_of(configured=configured) == PYTHON


@pytest.mark.parametrize("words", [(), ("message",), ("merge", "HEAD")], ids=str)
@pytest.mark.usefixtures("top")
def test_other_commits_than_merges_are_left_to_python(words: tuple[str, ...]) -> None:
    leave()
    assert message_of(words=words) == PYTHON


@pytest.mark.usefixtures("top")
def test_a_message_with_a_record_is_left_to_python() -> None:
    leave()
    assert message_of(f"Merge\n\n{KEY}: other\n") == PYTHON


@pytest.mark.usefixtures("top")
def test_a_file_that_is_staged_otherwise_is_left_to_python() -> None:
    leave()
    Path("a/b/model.bin").write_text("edited")
    subprocess.run(["git", "add", "a"], check=True)
    assert message_of() == PYTHON
    leave()
    subprocess.run(["git", "rm", "--quiet", "--cached", "a/b/model.bin"], check=True)
    assert message_of() == PYTHON


@pytest.mark.usefixtures("top")
def test_the_records_of_another_process_with_the_same_number_are_not_added() -> None:
    script = leave()
    text = script.read_text()
    _, start, boot = (calling_git() or "").split("-", 2)
    for now, then in ((f"= {start} ", "= 1 "), (f"= {boot} ", "= 1 ")):
        assert now in text
        script.write_text(text.replace(now, then))
        assert message_of() == PYTHON


@pytest.mark.parametrize("path", ["a b", "-a", ":a", "a\nb", "é", 'a"b'], ids=ascii)
@pytest.mark.usefixtures("top")
def test_files_with_names_that_git_or_the_shell_may_quote_are_left_to_python(path: str) -> None:
    assert not leave(staged(path)).exists()


@pytest.mark.usefixtures("top")
def test_no_records_or_too_many_files_leave_no_script() -> None:
    assert not leave({str(number): "0" * 40 for number in range(101)}).exists()
    write_records(Path(".git"), calling_git() or "", KEY, [], staged())
    assert not Path(".git", *RECORDS).exists()


@pytest.mark.usefixtures("top")
def test_scripts_are_dropped_with_other_records_and_when_the_process_ended() -> None:
    script = leave()
    ended = script.with_name("4194305")  # more than any process has
    ended.touch()
    drop_scripts(Path(".git"))
    assert [script.exists(), ended.exists()] == [True, False]
    drop_records(Path(".git"))
    assert not script.exists()
