"""The man page and bash's completion know the commands that there are."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import git_theta_ext
from git_theta_ext import errors
from git_theta_ext.cli.discovery import command_names
from git_theta_ext.registry import built_in

DOCS = Path(git_theta_ext.__file__).parents[1] / "docs"
MAN = DOCS / "man" / "git-theta.1"
COMPLETION = DOCS / "completion" / "git-theta"
HARNESS = """
__gitcomp () { COMPREPLY=($(compgen -W "$1" -- "$cur")); }
source "$1"; shift
words=(git theta "$@"); cword=$((${#words[@]} - 1)); cur=${words[cword]}; prev=${words[cword - 1]}
_git_theta
echo "${COMPREPLY[@]}"
"""


def completed(*words: str) -> list[str]:
    done = subprocess.run(
        ["bash", "-c", HARNESS, "bash", str(COMPLETION), *words], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_man_page_lists_every_command():
    section = MAN.read_text().partition(".SH COMMANDS")[2].partition(".SH CONFIGURATION")[0]
    found = re.findall(r"^\.TP\n\\fB([a-z\\-]+)\\fR", section, re.MULTILINE)
    assert sorted(name.replace("\\-", "-") for name in found) == command_names()


def test_man_page_lists_every_exit_code():
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type)}
    listed = {int(code) for code in re.findall(r"^(\d+)\t", MAN.read_text(), re.MULTILINE)}
    assert listed == codes | {0, 130, 141}


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_man_page_renders_without_a_complaint():
    done = subprocess.run(
        ["groff", "-t", "-man", "-ww", "-Tutf8", str(MAN)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_every_command_is_completed():
    assert sorted(completed("")) == command_names()
    assert completed("un") == ["uninstall", "untrack"]


@pytest.mark.parametrize("name", command_names())
def test_options_that_are_completed_are_those_that_the_command_takes(name, capsys):
    from git_theta_ext.cli.main import main

    assert main([name, "-h"]) == 0
    taken = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out.partition("options:")[2].partition("example")[0]))
    assert set(completed(name, "--")) == taken


def test_methods_are_completed():
    assert completed("resolve", "--method", "") == ["ours", "theirs", "base", *built_in("merges")]


def test_what_du_groups_by_is_completed():
    assert completed("du", "--by", "") == ["version", "encoding", "group", "parameter"]


def test_what_stats_does_is_completed():
    assert completed("stats", "") == ["collect", "show"]
    assert completed("stats", "collect", "--device", "") == ["auto", "cpu", "cuda"]
