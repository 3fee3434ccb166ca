"""Answers that one call of the merge or diff driver keeps for others of the same git process."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from git_theta_ext.git.answers import (
    calling_git,
    diff_question,
    drop_answers,
    keep_answer,
    keep_text,
    take_answer,
    take_text,
)

if TYPE_CHECKING:
    from pathlib import Path

VERSIONS = (b"base", b"ours", b"theirs")
WORDS = ["O", "A", "B", "7", "run/a.bin"]
OID, ZERO = "1" * 40, "0" * 40
DIFF = ["A", "/tmp/old", OID, "100644", "A", ZERO, "100644"]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the top of a work tree in which git calls the driver, with an answer that was kept for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GIT_DIR", raising=False)
    monkeypatch.setattr(os, "getppid", os.getpid)  # this process is the git
    (tmp_path / ".git").mkdir()
    for name, version in zip("OAB", VERSIONS, strict=True):
        (tmp_path / name).write_bytes(version)
    keep(tmp_path)
    return tmp_path


def keep(top: Path, code: int = 0, git: str | None = None) -> None:
    keep_answer(
        str(top / ".git"),
        git or calling_git() or "",
        path=WORDS[-1],
        marker_size="7",
        versions=VERSIONS,
        merged=b"merged",
        code=code,
    )


@pytest.mark.parametrize("code", [0, 1])
def test_an_answer_is_taken_once(call: Path, code: int) -> None:
    keep(call, code)
    assert take_answer(WORDS) == code
    assert (call / "A").read_bytes() == b"merged"
    (call / "A").write_bytes(b"ours")
    assert take_answer(WORDS) is None
    assert (call / "A").read_bytes() == b"ours"
    assert not list((call / ".git/theta/merging/answers").iterdir())


@pytest.mark.parametrize(
    ("place", "word"), [(3, "9"), (4, "run/b.bin"), (0, "A"), (1, "B"), (2, "longer"), (2, "missing")], ids=str
)
def test_call_that_differs_gets_no_answer(call: Path, place: int, word: str) -> None:
    (call / "longer").write_bytes(b"theirs and more")
    words = [*WORDS[:place], word, *WORDS[place + 1 :]]
    assert take_answer(words) is None
    assert [(call / name).read_bytes() for name in "OAB"] == [*VERSIONS]
    assert take_answer(WORDS) == 0


def test_names_with_the_same_checksum_are_told_apart(call: Path) -> None:
    assert take_answer([*WORDS[:-1], "plumless"]) is None
    for path in ("plumless", "buckeroo"):  # their CRC-32 is the same
        keep_answer(
            ".git", calling_git() or "", path=path, marker_size="7", versions=VERSIONS, merged=path.encode(), code=0
        )
    assert take_answer([*WORDS[:-1], "plumless"]) is None
    assert take_answer([*WORDS[:-1], "buckeroo"]) == 0
    assert (call / "A").read_bytes() == b"buckeroo"


def test_answers_for_another_git_process_are_not_taken_and_dropped(call: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = calling_git() or ""
    keep(call, git="1-1-boot")
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert take_answer(WORDS) is None
    drop_answers(".git")
    assert [path.name for path in (call / ".git/theta/merging/answers").iterdir()] == [git]


def test_git_directory_of_a_linked_work_tree_is_found(call: Path) -> None:
    (call / ".git").rename(call / "elsewhere")
    (call / ".git").write_text("gitdir: elsewhere\n")
    assert take_answer(WORDS) == 0


def keep_diff(words: list[str], text: bytes = b"1 modified\n", code: int = 1) -> None:
    keep_text(".git", calling_git() or "", path=words[0], question=diff_question(words), text=text, code=code)


@pytest.mark.parametrize("code", [0, 1])
def test_the_text_of_a_diff_is_taken_once(call: Path, capfd: pytest.CaptureFixture[str], code: int) -> None:
    keep_diff(DIFF, code=code)
    assert take_text(["A", "/tmp/other", *DIFF[2:]]) == code
    assert capfd.readouterr().out == "1 modified\n"
    assert take_text(DIFF) is None
    assert capfd.readouterr().out == ""
    assert not list((call / ".git/theta/diffing/answers").iterdir())


@pytest.mark.parametrize(
    ("place", "word"),
    [(0, "B"), (2, "2" * 40), (3, "100755"), (4, "B"), (5, OID), (6, "100755"), (4, "missing")],
    ids=str,
)
def test_diff_that_differs_gets_no_answer(call: Path, capfd: pytest.CaptureFixture[str], place: int, word: str) -> None:
    keep_diff(DIFF)
    assert take_text([*DIFF[:place], word, *DIFF[place + 1 :]]) is None
    assert take_text([*DIFF, "B", "renamed"]) is None
    assert capfd.readouterr().out == ""
    assert take_text(DIFF) == 1


def test_diff_of_a_file_that_was_written_meanwhile_gets_no_answer(call: Path) -> None:
    keep_diff(DIFF)
    (call / "new").write_bytes(b"OURS")
    (call / "new").replace(call / "A")
    assert take_text(DIFF) is None


def test_text_whose_end_was_not_written_is_not_taken(call: Path) -> None:
    keep_diff(DIFF)
    (file,) = (call / ".git/theta/diffing/answers").glob("*/*")
    file.write_bytes(file.read_bytes()[:-1])
    assert take_text(DIFF) is None


def test_answers_for_a_git_process_that_runs_are_not_dropped(call: Path) -> None:
    keep_diff(DIFF)
    keep_text(".git", "1-1-boot", path="A", question=b"", text=b"", code=0)
    drop_answers(".git")
    assert [path.name for path in (call / ".git/theta/diffing/answers").iterdir()] == [calling_git()]


@pytest.mark.parametrize(("driver", "words", "answered"), [("merge-driver", WORDS, "0"), ("diff-driver", DIFF, "1")])
def test_call_that_takes_an_answer_imports_next_to_nothing(
    call: Path, driver: str, words: list[str], answered: str
) -> None:
    keep_diff(DIFF, text=b"")
    code = (
        "import sys; before = {*sys.modules}; from git_theta_ext.cli.main import main\n"
        f"sys.argv = ['git-theta', '{driver}', *{words}]\n"
        "print(main(), *({*sys.modules} - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=call, capture_output=True, check=True, text=True)
    code, *modules = done.stdout.split()
    ours = {f"git_theta_ext{name}" for name in ("", ".cli", ".cli.main", ".git", ".git.answers", ".version")}
    assert code == answered
    assert ours <= set(modules) <= {*ours, "__future__", "binascii"}
