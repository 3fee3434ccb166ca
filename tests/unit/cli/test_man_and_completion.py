"""The man pages, completions and tables of the documentation are those of the code, and programs accept them."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documentation.__main__ import PROJECT, generated, main
from documentation.commands import commands, usage

from git_theta_ext import registry
from git_theta_ext.cli import discovery
from git_theta_ext.cli.discovery import command_names
from git_theta_ext.cli.main import main as git_theta
from git_theta_ext.registry import built_in
from git_theta_ext.settings import ENVIRONMENT, Setting

COMPLETION = PROJECT / "docs" / "completion"
BASH = """
__gitcomp () { COMPREPLY=($(compgen -W "$1" -- "$cur")); }
source "$1"; shift
words=(git theta "$@"); cword=$((${#words[@]} - 1)); cur=${words[cword]}; prev=${words[cword - 1]}
_git_theta
echo "${COMPREPLY[@]}"
"""

BASH_OF_GIT = """
source "$1"; source "$2"; shift 2
COMP_LINE="$*"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_POINT=${#COMP_LINE}
__git_wrap__git_main
echo "${COMPREPLY[@]}"
"""
ZSH = r"""
zmodload zsh/zpty
zpty terminal zsh -f -i
zpty -w terminal "fpath=($1 \$fpath); autoload -U compinit; compinit -u -D; print REA''DY"
zpty -r terminal shown '*READY*'
zpty -n -w terminal "$2"$'\t'
zpty -r terminal shown '*uninstall*unlock*untrack*'
print -r -- "$shown"
zpty -d terminal
"""


def completed(*words: str) -> list[str]:
    done = subprocess.run(
        ["bash", "-c", BASH, "bash", str(COMPLETION / "git-theta"), *words], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def test_generated_files_are_current():
    assert [str(path) for path, text in generated().items() if path.read_text() != text] == []


def test_a_stale_file_is_named_and_written_anew(tmp_path, monkeypatch, capsys):
    from documentation import __main__ as documentation

    monkeypatch.setattr(documentation, "PROJECT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("<!-- generated: formats -->\nold\n<!-- end -->\nrest\n")
    (tmp_path / "docs" / "man").mkdir()
    left = tmp_path / "docs" / "man" / "git-theta-former.1"
    left.touch()
    assert main(["--check"]) == 1
    shown = capsys.readouterr().out
    assert "stale: README.md" in shown
    assert "left over: docs/man/git-theta-former.1" in shown
    assert left.exists()
    assert (tmp_path / "README.md").read_text().count("old") == 1
    assert main([]) == 0
    assert not left.exists()
    assert main(["--check"]) == 0
    assert re.search(r"\| `safetensors` \|.*<!-- end -->\nrest\n$", (tmp_path / "README.md").read_text(), re.DOTALL)


COUNT = (
    '"""Count parameters."""\nGROUP = "daily"\nEXAMPLE = "git theta count"\ndef register(parser): 0\ndef run(args): 0\n'
)


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        (("Count parameters.", "Count parameters"), "a docstring at its beginning"),
        (('"""', "x = 0  # "), "a docstring at its beginning"),
        (('GROUP = "daily"\n', ""), 'a line GROUP = "..." with one of start, daily,'),
        (('"daily"', '"weekly"'), 'a line GROUP = "..." with one of start, daily,'),
        (("EXAMPLE", "EXAMPLES"), "a constant EXAMPLE"),
        (("register", "registers"), "a function register(parser)"),
        (("def run", "def walk"), "a function run(args)"),
        (("parser): 0", "parser): parser.add_argument('--all')"), "the argument --all needs a text as help"),
        (("parser): 0", "parser): parser.add_argument('x', nargs=2, help='x')"), "the argument x needs nargs"),
    ],
)
def test_what_a_command_lacks_is_said_in_one_line(tmp_path, monkeypatch, capsys, change, lacking):
    folder = tmp_path / "git_theta_ext" / "cli" / "commands"
    folder.mkdir(parents=True)
    (folder.parent / "plumbing").mkdir()
    (folder / "count.py").write_text(COUNT.replace(*change))
    monkeypatch.setattr(discovery, "_HERE", folder.parent)
    monkeypatch.setattr("git_theta_ext.cli.commands.__path__", [str(folder)])
    monkeypatch.delitem(sys.modules, "git_theta_ext.cli.commands.count", raising=False)
    commands.cache_clear()
    try:
        assert main(["--check"]) != 0
    finally:
        commands.cache_clear()
        sys.modules.pop("git_theta_ext.cli.commands.count", None)
    said = capsys.readouterr()
    assert re.fullmatch(r"error: git_theta_ext/cli/commands/count.py.*\n", said.err)
    assert lacking in said.err
    assert said.out == ""


@pytest.mark.parametrize(
    ("group", "text", "lacking"),
    [
        ("merges", "import math\n", "needs a docstring at its beginning"),
        ("merges", '"""Noise."""\n', "needs a constant METHOD with the merge method"),
        ("merges", '"""Noise."""\nclass METHOD: name = "noise"\n', "needs a MergeContract"),
        ("formats", '"""Noise."""\nMETHOD = 1\n', "needs a constant FORMAT with the format"),
    ],
)
def test_what_a_plugin_lacks_is_said_in_one_line(tmp_path, monkeypatch, capsys, group, text, lacking):
    (tmp_path / "noise.py").write_text(text)
    package = importlib.import_module(f"git_theta_plugins.{group}")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    try:
        assert main(["--check"]) != 0
    finally:
        sys.modules.pop(f"{package.__name__}.noise", None)
        registry._find.cache_clear()
    said = capsys.readouterr().err
    assert re.fullmatch(f"error: plugins/{group}/noise.py needs .*\n", said)
    assert lacking in said


def test_a_setting_without_a_summary_and_a_page_with_an_unknown_table_are_named(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr("git_theta_ext.settings.SETTINGS", (Setting("theta.new", "size", "1", ""),))
        assert main(["--check"]) != 0
    assert capsys.readouterr().err == "error: git_theta_ext/settings.py: theta.new needs a kind and a summary\n"
    monkeypatch.setattr("documentation.__main__.PROJECT", tmp_path)
    (tmp_path / "README.md").write_text("<!-- generated: planets -->\n<!-- end -->\n")
    assert main(["--check"]) != 0
    assert re.fullmatch(r"error: README.md needs one of the blocks .*, not 'planets'\n", capsys.readouterr().err)


def test_every_environment_variable_is_documented():
    read = set()
    for path in (PROJECT / "git_theta_ext").rglob("*.py"):
        read |= set(re.findall(r'"(GIT_THETA_[A-Z_]+)"', path.read_text()))
    # Only git theta itself sets these.
    internal = {f"GIT_THETA_{name}" for name in ("FINISHED_LATER", "NESTED", "FILTER_ANSWERED", "FILTER_RECEIVED")}
    assert read - internal <= set(ENVIRONMENT)


MANUAL = PROJECT / "docs" / "man"


@needs("groff")
def test_man_pages_render_without_a_complaint():
    pages = sorted(MANUAL.iterdir())
    assert {page.name for page in pages} == {"git-theta.1", *(f"git-theta-{name}.1" for name in command_names())}
    done = subprocess.run(["groff", "-t", "-man", "-ww", "-Tutf8", *pages], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@needs("man")
def test_git_help_shows_an_overview_and_man_the_page_of_a_command(tmp_path, monkeypatch):
    # man looks in share/man beside each directory of PATH, so an environment that is active needs no setting.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git-theta").touch(0o755)  # git asks for its page only then
    (tmp_path / "share" / "man").mkdir(parents=True)
    shutil.copytree(MANUAL, tmp_path / "share" / "man" / "man1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("MANPAGER", "cat")

    def shown(*words):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if "minimized" in done.stdout:
            pytest.skip("man is installed without pages")
        assert done.returncode == 0, done.stderr
        return re.sub(r".\x08", "", done.stdout)

    overview = shown("git", "help", "theta")
    assert all(re.search(rf"^ +git-theta-{name}\(1\)$", overview, re.MULTILINE) for name in command_names())
    page = shown("man", "git-theta-merge")
    assert "git theta merge [--plan | --replay" in page
    assert "[-X NAME=VALUE]" in page


def test_a_usage_line_shows_what_is_optional_and_what_excludes_each_other():
    lines = {command.name: " ".join(" ".join(usage(command)).split()) for command in commands()}
    assert lines["export"] == "git theta export [--force] [--to FORMAT] [--param GLOB] ... REV:PATH FILE"
    modes = "[--plan | --replay | --report | --try WORDS | --search FILE]"
    assert lines["merge"].startswith(f"git theta merge {modes} [--html FILE] [-X NAME=VALUE] ...")
    assert lines["compress"].startswith("git theta compress --compeft --density K [--alpha A] --output FILE OLD NEW")


def test_a_long_usage_is_broken_between_arguments_into_lines_of_a_terminal():
    first, *rest = usage(next(command for command in commands() if command.name == "log"))
    assert first.startswith("git theta log [--max-count N] ")
    assert all(line.startswith(" " * len("git theta log ") + "[--") for line in rest)
    assert all(60 < len(line) <= 80 for line in (first, *rest[:-1]))


@pytest.mark.parametrize(
    ("shell", "names"),
    [("bash", ["git-theta"]), ("fish", ["git-theta.fish", "conf.d/git-theta.fish"]), ("zsh", ["_git-theta"])],
)
def test_the_completions_of_a_shell_are_printed(shell, names, capsys):
    assert git_theta(["completion", shell]) == 0
    assert capsys.readouterr().out == "\n".join((COMPLETION / name).read_text() for name in names)


def test_every_command_is_completed():
    assert sorted(completed("")) == list(command_names())
    assert completed("un") == ["uninstall", "untrack", "unlock"]


def test_options_that_are_completed_are_those_that_the_command_takes(capsys):
    assert git_theta(["prune", "-h"]) == 0
    taken = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out.partition("options:")[2].partition("example")[0]))
    assert set(completed("prune", "--")) == taken


def test_values_are_completed():
    assert completed("resolve", "--method", "") == ["ours", "theirs", "base", *built_in("merges")]
    assert completed("du", "--by", "") == ["version", "encoding", "group", "parameter"]
    assert completed("add", "--update", "l") == ["lora="]
    assert completed("stats", "") == ["collect", "show"]
    assert completed("stats", "collect", "--device", "") == ["auto", "cpu", "cuda"]


@needs("zsh")
def test_zsh_reads_its_completion():
    done = subprocess.run(["zsh", "-n", COMPLETION / "_git-theta"], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@needs("zsh")
def test_zsh_completes_commands_that_are_typed(tmp_path):
    command = ["zsh", "-f", "-c", ZSH, "zsh", str(COMPLETION), "git theta un"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert re.search("uninstall +-- Remove the settings", done.stdout)


def test_bash_completes_commands_that_are_typed():
    places = (Path(prefix) / "share/bash-completion/completions/git" for prefix in ("/usr", "/usr/local"))
    of_git = next((place for place in places if place.is_file()), None)
    if of_git is None:
        pytest.skip("git's completion for bash is not installed")

    def offered(*words):
        command = ["bash", "-c", BASH_OF_GIT, "bash", str(of_git), str(COMPLETION / "git-theta"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    assert offered("git", "theta", "un") == ["uninstall", "untrack", "unlock"]
    assert offered("git", "-C", ".", "theta", "add", "--dry") == ["--dry-run"]


@needs("fish")
@pytest.mark.parametrize("program", ["git-theta", "git theta", "git -C . theta"])
def test_fish_completes_commands_options_and_values(tmp_path, program):
    for folder, name in (("completions", "git-theta.fish"), ("conf.d", "conf.d/git-theta.fish")):
        (tmp_path / "fish" / folder).mkdir(parents=True)
        shutil.copy(COMPLETION / name, tmp_path / "fish" / folder)
    (tmp_path / "git-theta").touch(0o755)  # fish completes only commands that exist
    (tmp_path / "my model.pt").touch()
    lines = [" un", " add --dry", " du --by v", " add my", " add my\\ model.pt --dry"]
    script = "; ".join(f'complete -C "{program}{line}"' for line in lines)
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(
        ["fish", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    offered = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert offered == ["uninstall", "unlock", "untrack", "--dry-run", "version", "my model.pt", "--dry-run"]
