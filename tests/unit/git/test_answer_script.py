"""Answers that the shell gives to calls of the merge driver and the diff driver."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from helpers import become_git

from git_theta_ext.git.answer_script import DIFF, MERGE, drop_scripts, text_answer, write_merges, write_texts
from git_theta_ext.git.answers import calling_git, diff_question, has_answer, keep_answer, keep_text, take_answer

VERSIONS = (b"", b"ours\n", b"theirs")
PATH = "it's *.bin"
NOT_ANSWERED = 7
SCRIPTS, DIFF_SCRIPTS = (Path(".git", *driver.folder, "scripts") for driver in (MERGE, DIFF))
OID, ZERO = "1" * 40, "0" * 40
WORDS = ["A", "/tmp/old", OID, "100644", "A", ZERO, "100644"]
"""A call of the diff driver for a file of the work tree."""


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the top of a work tree in which this process is the git, with answers for two files."""
    become_git(tmp_path, monkeypatch)
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
    command = MERGE.command.replace("%P", quoted)
    for name, word in zip(("%O", "%A", "%B", "%L"), words, strict=True):
        command = command.replace(name, word)
    return subprocess.run(["/bin/sh", "-c", command, command], check=False).returncode


def test_the_shell_gives_an_answer_once(top: Path) -> None:
    assert call() == NOT_ANSWERED
    assert (top / "python").read_text().splitlines() == ["merge-driver", "O", "A", "B", "7", PATH]
    write_merges(Path(".git"), calling_git() or "", "sha1")
    assert [call(), (top / "A").read_text()] == [0, f"merged {PATH}"]
    (top / "A").write_bytes(VERSIONS[1])
    assert [call(path="other"), (top / "A").read_text()] == [1, "merged other"]
    (top / "A").write_bytes(VERSIONS[1])
    assert call() == NOT_ANSWERED
    assert take_answer(["O", "A", "B", "7", PATH]) is None
    assert not has_answer(".git", calling_git() or "", PATH)
    assert not list(top.glob(".git/theta/merging/*/*"))


@pytest.mark.parametrize("merged", [b"", b"it's\\n 100%\n\n", b"\xff\r\n", b"\0"])
def test_the_shell_gives_every_byte_or_leaves_it_to_python(top: Path, merged: bytes) -> None:
    git = calling_git() or ""
    keep_answer(".git", git, path="p", marker_size="7", versions=VERSIONS, merged=merged, code=0)
    write_merges(Path(".git"), git, "sha1")
    code = call(path="p")
    assert (code, (top / "A").read_bytes()) == ((0, merged) if merged != b"\0" else (NOT_ANSWERED, VERSIONS[1]))
    assert has_answer(".git", git, "p") == bool(code)


@pytest.mark.parametrize("words", [("A", "A", "B", "7"), ("O", "B", "B", "7"), ("O", "A", "none", "7"), (*"OAB", "9")])
def test_call_that_differs_gets_no_answer(top: Path, words: tuple[str, ...]) -> None:
    write_merges(Path(".git"), calling_git() or "", "sha1")
    assert call(words) == NOT_ANSWERED
    assert call(path="it's a.bin") == NOT_ANSWERED
    assert (top / "A").read_bytes() == VERSIONS[1]
    assert call() == 0


def test_another_process_with_the_same_number_gets_no_answer(top: Path) -> None:
    write_merges(Path(".git"), calling_git() or "", "sha1")
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
    write_merges(Path(".git"), calling_git() or "", "sha1")
    assert call(path=path.replace("b", "c")) == NOT_ANSWERED
    assert [call(path=path), (top / "A").read_bytes()] == [0, b"merged " + os.fsencode(path)]


def test_scripts_of_processes_that_ended_are_dropped(top: Path) -> None:
    write_merges(Path(".git"), calling_git() or "", "sha1")
    folders = [top / SCRIPTS, top / DIFF_SCRIPTS]
    show([WORDS])
    before = {file for folder in folders for file in folder.rglob("*")}
    for folder in folders:
        (folder / "4194305").touch()  # more than any process has
        (folder / "4194305.left").touch()
        (folder / "4194305.calls/models").mkdir(parents=True)
        (folder / "4194305.calls/models/a.sh").touch()
    drop_scripts(Path(".git"))
    assert {file for folder in folders for file in folder.rglob("*")} == before


def test_the_script_is_as_long_for_many_answers_as_for_few(top: Path) -> None:
    write_merges(Path(".git"), calling_git() or "", "sha1")
    script = top / SCRIPTS / str(os.getpid())
    few = script.read_bytes()
    for number in range(20):
        keep(f"models/{number}/model.bin")
    write_merges(Path(".git"), calling_git() or "", "sha1")
    assert script.read_bytes() == few
    assert call(path="models/7/model.bin") == 0
    assert call(path=PATH) == NOT_ANSWERED  # git merges again, and did not ask for this before


@pytest.mark.parametrize("path", ["../outside", "models/../../outside", "/outside"])
def test_names_that_leave_the_folder_of_answers_are_left_to_python(top: Path, path: str) -> None:
    keep(path)
    write_merges(Path(".git"), calling_git() or "", "sha1")
    assert call(path=path) == NOT_ANSWERED
    assert call() == 0
    assert not list(top.rglob("outside.sh"))


def show(calls: list[list[str]], code: int = 1) -> None:
    """Keep answers to calls of the diff driver, and let the shell give them."""
    git = calling_git() or ""
    answers = []
    for words in calls:
        question, text = diff_question(words), b"text of " + os.fsencode("/".join([words[0], *words[7:8]]))
        file = keep_text(".git", git, path=words[0], question=question, text=text, code=code)
        answers.append(text_answer(words, question, file, len(text), code))
    write_texts(Path(".git"), git, [answer for answer in answers if answer is not None])


def diff(words: list[str], output: int = subprocess.PIPE) -> tuple[int, bytes]:
    """Call the diff driver as git does."""
    command = DIFF.command
    done = subprocess.run(["/bin/sh", "-c", f'{command} "$@"', command, *words], check=False, stdout=output)
    return done.returncode, done.stdout


@pytest.mark.parametrize("code", [0, 1])
def test_the_shell_gives_the_text_of_a_diff_once(top: Path, code: int) -> None:
    renamed = ["O", "/tmp/old", OID, "100644", "/tmp/new", "2" * 40, "100644", PATH, "headline"]
    assert diff(WORDS) == (NOT_ANSWERED, b"")
    assert (top / "python").read_text().splitlines() == ["diff-driver", *WORDS]
    show([WORDS, renamed], code)
    assert diff(WORDS) == (code, b"text of A")
    assert diff(WORDS)[0] == NOT_ANSWERED
    assert diff(renamed[:7])[0] == NOT_ANSWERED
    assert diff([*renamed[:1], "/tmp/other", *renamed[2:]]) == (code, f"text of O/{PATH}".encode())
    assert not list(top.glob(".git/theta/diffing/*/*"))


@pytest.mark.parametrize(
    ("place", "word"),
    [(0, "B"), (2, "2" * 40), (3, "100755"), (4, "B"), (5, OID), (6, "100755"), (4, "missing")],
    ids=str,
)
def test_diff_that_differs_gets_no_text(top: Path, place: int, word: str) -> None:
    show([WORDS])
    assert diff([*WORDS[:place], word, *WORDS[place + 1 :]]) == (NOT_ANSWERED, b"")
    assert diff([*WORDS, "B", "headline"]) == (NOT_ANSWERED, b"")
    assert diff(WORDS) == (1, b"text of A")


def test_diff_of_a_file_that_was_written_meanwhile_gets_no_text(top: Path) -> None:
    show([WORDS])
    before = (top / "A").stat()
    (top / "A").write_bytes(VERSIONS[1])
    os.utime("A", ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    assert diff(WORDS)[0] == NOT_ANSWERED


def test_another_process_with_the_same_number_gets_no_text(top: Path) -> None:
    show([WORDS])
    script = top / DIFF_SCRIPTS / str(os.getpid())
    text = script.read_text()
    start = f"= {(calling_git() or '').split('-', 2)[1]} "
    assert start in text
    script.write_text(text.replace(start, "= 1 "))
    assert diff(WORDS)[0] == NOT_ANSWERED
    script.write_text(text)
    assert diff(WORDS)[0] == 1


def test_a_diff_without_a_reader_is_answered(top: Path) -> None:
    show([WORDS])
    reader, writer = os.pipe()
    os.close(reader)
    assert diff(WORDS, writer)[0] == 1
    os.close(writer)
    assert not (top / "python").exists()


def test_diffs_of_names_of_any_bytes_are_answered(top: Path) -> None:
    names = [os.fsdecode(b"a\nb \xff$(false);`*"), "-n"]
    for name in names:
        (top / name).write_bytes(b"")
    calls = [[name, *WORDS[1:4], name, *WORDS[5:]] for name in names]
    show(calls)
    assert [diff(words) for words in calls] == [(1, b"text of " + os.fsencode(name)) for name in names]


def test_python_answers_in_a_linked_work_tree(top: Path) -> None:
    show([WORDS])
    (top / ".git").rename(top / "elsewhere")
    (top / ".git").write_text("gitdir: elsewhere\n")
    assert diff(WORDS)[0] == NOT_ANSWERED
