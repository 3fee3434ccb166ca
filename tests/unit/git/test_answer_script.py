"""Answers that the shell gives to calls of the merge driver."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from git_theta_ext.git.answer_script import DRIVER, drop_scripts, write_script
from git_theta_ext.git.answers import calling_git, has_answer, keep_answer, take_answer

VERSIONS = (b"", b"ours\n", b"theirs")
PATH = "it's *.bin"
NOT_ANSWERED = 7
SCRIPTS = Path(".git", "theta", "merging", "scripts")


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the top of a work tree in which this process is the git, with answers for two files."""
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setattr(os, "getppid", os.getpid)
    subprocess.run(["git", "init", "--quiet"], check=True)
    for name, version in zip("OAB", VERSIONS, strict=True):
        (tmp_path / name).write_bytes(version)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git-theta").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >python; exit {NOT_ANSWERED}\n')
    (tmp_path / "bin/git-theta").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    keep(PATH)
    keep("other", 1)
    return tmp_path


def keep(path: str, code: int = 0) -> None:
    keep_answer(
        ".git",
        calling_git() or "",
        path=path,
        marker_size="7",
        versions=VERSIONS,
        merged=b"merged " + os.fsencode(path),
        code=code,
    )


def call(words: tuple[str, ...] = ("O", "A", "B", "7"), path: str = PATH) -> int:
    """Call the driver as git does."""
    quoted = "'" + path.replace("'", "'\\''") + "'"
    command = DRIVER.replace("%P", quoted)
    for name, word in zip(("%O", "%A", "%B", "%L"), words, strict=True):
        command = command.replace(name, word)
    return subprocess.run(["/bin/sh", "-c", command, command], check=False).returncode


def test_the_shell_gives_an_answer_once(top: Path) -> None:
    assert call() == NOT_ANSWERED
    assert (top / "python").read_text().splitlines() == ["merge-driver", "O", "A", "B", "7", PATH]
    write_script(Path(".git"), calling_git() or "", "sha1")
    assert [call(), (top / "A").read_text()] == [0, f"merged {PATH}"]
    (top / "A").write_bytes(VERSIONS[1])
    assert [call(path="other"), (top / "A").read_text()] == [1, "merged other"]
    (top / "A").write_bytes(VERSIONS[1])
    assert call() == NOT_ANSWERED
    assert take_answer(["O", "A", "B", "7", PATH]) is None
    assert not has_answer(".git", calling_git() or "", PATH)


@pytest.mark.parametrize("words", [("A", "A", "B", "7"), ("O", "B", "B", "7"), ("O", "A", "none", "7"), (*"OAB", "9")])
def test_call_that_differs_gets_no_answer(top: Path, words: tuple[str, ...]) -> None:
    write_script(Path(".git"), calling_git() or "", "sha1")
    assert call(words) == NOT_ANSWERED
    assert call(path="it's a.bin") == NOT_ANSWERED
    assert (top / "A").read_bytes() == VERSIONS[1]
    assert call() == 0


def test_another_process_with_the_same_number_gets_no_answer(top: Path) -> None:
    write_script(Path(".git"), calling_git() or "", "sha1")
    script = top / SCRIPTS / str(os.getpid())
    text = script.read_text()
    _, start, boot = (calling_git() or "").split("-", 2)
    for now, then in ((f"= {start} ", "= 1 "), (f"= {boot} ", "= 1 ")):
        assert now in text
        script.write_text(text.replace(now, then))
        assert call() == NOT_ANSWERED
    script.write_text(text)
    assert call() == 0


def test_names_of_any_bytes_are_answered(top: Path) -> None:
    path = os.fsdecode(b"a\nb \xff$(false);`")
    keep(path)
    write_script(Path(".git"), calling_git() or "", "sha1")
    assert call(path=path.replace("b", "c")) == NOT_ANSWERED
    assert [call(path=path), (top / "A").read_bytes()] == [0, b"merged " + os.fsencode(path)]


def test_scripts_of_processes_that_ended_are_dropped(top: Path) -> None:
    write_script(Path(".git"), calling_git() or "", "sha1")
    (top / SCRIPTS / "4194305").touch()  # more than any process has
    drop_scripts(Path(".git"))
    assert [file.name for file in (top / SCRIPTS).iterdir()] == [str(os.getpid())]
