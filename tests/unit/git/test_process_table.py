"""The processes above one: the same from ``/proc`` and from ``ps``."""

import os
import shutil
import stat
import subprocess
import sys

import pytest

from git_theta_ext.git import process_table
from git_theta_ext.git.caller import calling_commands
from git_theta_ext.git.process_table import PROC, ancestors

needs_both = pytest.mark.skipif(
    not (PROC / "self").exists()
    or shutil.which("ps") is None
    or subprocess.run(process_table._PS, capture_output=True, check=False).returncode != 0,
    reason="needs /proc, and ps with the options of POSIX, to compare",
)


@needs_both
def test_ps_lists_the_ancestors_that_proc_has(tmp_path):
    by_proc = list(ancestors(os.getpid(), PROC, 4))
    by_ps = list(ancestors(os.getpid(), tmp_path / "none", 4))
    assert [(each.pid, each.parent) for each in by_ps] == [(each.pid, each.parent) for each in by_proc]
    assert len(by_ps) > 1


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """Return a function that lets ``ps`` print something."""

    def fake(text):
        script = tmp_path / "ps"
        script.write_text(f"#!{sys.executable}\nprint({text!r})\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(process_table, "_PS", (str(script),))
        return [" ".join(words) for words in calling_commands(30, tmp_path / "none")]

    return fake


def test_commands_are_found_in_what_ps_prints(listed):
    table = """
        1     0 /sbin/launchd
       10     1 -zsh
       20    10 /Library/Developer/CommandLineTools/usr/bin/git -c a.b=c cherry-pick -m 1 topic
       25    20 /opt/python3.12/bin/Python /opt/bin/git-theta hook
       30    25 sh -c git-theta merge-driver "$@"
    """
    assert listed(table) == ["cherry-pick -m 1 topic"]


@pytest.mark.parametrize("table", ["", "odd", "30 1", "ps: illegal option -- A"])
def test_without_a_list_of_processes_no_command_is_known(listed, table):
    assert listed(table) == []


def test_without_ps_no_command_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(process_table, "_PS", (str(tmp_path / "absent"),))
    assert list(calling_commands(os.getpid(), tmp_path / "none")) == []
