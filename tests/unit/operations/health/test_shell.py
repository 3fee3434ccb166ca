"""The doctor says whether man and the shell find the pages and completions of git theta."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from documentation.__main__ import MANUAL, PROJECT

from git_theta_ext.operations.health.shell import check_shell

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the user an empty home, and the system empty directories of shared data."""
    for name in ("FPATH", "XDG_DATA_HOME", "SHELL", "MANPATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "home", "XDG_DATA_DIRS": "system", "XDG_CONFIG_HOME": "home/.config"}.items():
        (tmp_path / value).mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(name, str(tmp_path / value))
    return tmp_path / "home"


def state(code: str) -> tuple[str, str]:
    (found,) = (finding for finding in check_shell() if finding.code == code)
    return found.state, found.command


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_the_command_for_a_shell_without_completions_writes_them(
    shell: str, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    before, command = state("completion")
    assert before == "note"
    subprocess.run(["bash", "-c", command], check=True)
    assert [path for path in user.rglob("*git-theta*") if path.read_text()]
    assert state("completion") == ("ok", "")


def test_bash_looks_beside_programs_if_its_completion_is_new_enough(
    user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.setenv("PATH", str(user / "bin"), prepend=":")
    beside = user / "share" / "bash-completion" / "completions" / "git-theta"
    beside.parent.mkdir(parents=True)
    beside.touch()
    loader = user.parent / "system" / "bash-completion" / "bash_completion"
    loader.parent.mkdir()
    loader.write_text("BASH_COMPLETION_VERSINFO=(2 11)\n")
    assert state("completion")[0] == "note"
    loader.write_text("BASH_COMPLETION_VERSINFO=(2 12 0)\n")
    assert state("completion")[0] == "ok"


def test_zsh_looks_in_its_path_of_functions(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/zsh")
    (user / "_git-theta").touch()
    assert state("completion")[0] == "note"
    monkeypatch.setenv("FPATH", f"/nowhere:{user}")
    assert state("completion")[0] == "ok"


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_pages_that_man_does_not_find_are_named_with_their_place(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(sys, "prefix", str(user))
    assert state("man") == ("note", "git theta help commands")
    (user / "share" / "man").mkdir(parents=True)
    shutil.copytree(PROJECT / MANUAL, user / "share" / "man" / "man1")
    before, command = state("man")
    assert (before, command) == ("note", f"export MANPATH={user}/share/man:$MANPATH")
    monkeypatch.setenv("MANPATH", f"{user}/share/man:")
    assert state("man") == ("ok", "")


def test_nothing_is_said_about_programs_that_are_not_there(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(user))
    monkeypatch.setenv("SHELL", "/bin/nu")
    assert list(check_shell()) == []
