from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from git_theta_ext import __version__
from git_theta_ext.cli.discovery import GROUPS, command_names, descriptions, internal_names, load
from git_theta_ext.cli.main import main
from git_theta_ext.cli.parser import parser_of


def test_the_overview_lists_every_command_and_an_example(capsys):
    assert main(["-h"]) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^  {name} +\S", shown, re.MULTILINE) for name in command_names())
    assert "example:" in shown


def test_the_overview_fits_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["-h"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.parametrize("name", command_names())
def test_the_paragraphs_of_a_help_fit_the_terminal(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, *paragraphs = parser_of(name, load(name)).format_help().partition("\nexample:")[0].split("\n\n")
    assert max(len(line) for paragraph in paragraphs for line in paragraph.splitlines()) <= 80


def test_the_overview_says_what_the_modules_say_and_imports_none_of_them():
    for found in descriptions():
        assert load(found.name).__doc__.splitlines()[0] == f"{found.summary}."
        assert found.group == load(found.name).GROUP
    assert {found.group for found in descriptions()} == set(GROUPS)
    code = (
        "import sys; from git_theta_ext.cli.main import main; main(['-h'])\n"
        "print([name for name in sys.modules if name.startswith('git_theta_ext.cli.commands')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stderr == b"[]\n"


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"git-theta {__version__}\n"


def test_help_of_a_command_is_that_of_its_option(capsys):
    assert main(["help", "add"]) == 0
    shown = capsys.readouterr().out
    assert main(["add", "-h"]) == 0
    assert capsys.readouterr().out == shown
    assert main(["help", "ad"]) == 2


@pytest.mark.parametrize("name", [*command_names(), *internal_names()])
def test_every_command_explains_itself_with_an_example(name, capsys):
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"git theta {name}" in shown
    assert "example:\n  git " in shown


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["statuss"], "unknown command 'statuss'", "did you mean status?"),
        (["--vresion"], "unknown option '--vresion'", "did you mean --version?"),
        (["zzzz"], "unknown command 'zzzz'", "git theta -h"),
        (["gc", "--grace", "soon"], "invalid float value: 'soon'", "git theta gc -h"),
        (["env", "--jsn"], "unrecognized arguments: --jsn", "did you mean --json?"),
        (["switch"], "unknown command 'switch'", "git switch BRANCH"),
        (["merge", "side"], "git merge does", "git merge side"),
        (["merge", "a", "b"], "git merge does", "git merge -s theta a b"),
        (["env", "--zzzz"], "unrecognized arguments: --zzzz", "git theta env -h"),
        (["resolve", "--ours", "a.pt"], "unrecognized arguments: --ours", "git theta resolve --method ours MODEL"),
        (["checkout", "--theirs", "a.pt"], "arguments: --theirs", "git theta resolve --method theirs MODEL"),
        (["log", "--oneline", "a.pt"], "arguments: --oneline", "git log --oneline MODEL"),
        (["add"], "required: PATH", "git theta add -h"),
        (["hook", "pre-pull", "a", "b"], "invalid choice", "git theta hook -h"),
    ],
)
def test_unknown_things_get_a_hint(arguments, message, hint, capsys):
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert f"hint: {hint}\n" in shown


@pytest.mark.parametrize(
    "words",
    [
        *(f"{name} a {{}} b" for name in ("add", "checkout", "du", "fetch", "lock", "log", "pull", "resolve", "show")),
        *(f"{name} a {{}} b" for name in ("mergetool", "status", "track", "unlock", "untrack")),
        "fsck --raw {} A..B HEAD",
        "fsck A..B --raw {} HEAD",
        "migrate import a {} b --include c",
    ],
)
def test_options_may_stand_anywhere_among_the_other_arguments(words):
    name, *rest = words.split()
    parser = parser_of(name, load(name))
    mixed = parser.parse([word.format("--json") for word in rest])
    assert mixed == parser.parse([word for word in rest if word != "{}"] + ["--json"])


def test_what_follows_two_dashes_is_no_option():
    parser = parser_of("add", load("add"))
    assert parser.parse(["--json", "--", "-a", "--json"]).paths == ["-a", "--json"]


def test_a_command_of_another_name_is_the_same(capsys):
    shown = {}
    for name in ("fetch", "prefetch"):
        assert main([name, "-h"]) == main(["help", name]) == 0
        shown[name] = capsys.readouterr().out
    assert shown["fetch"] == shown["prefetch"]


def test_options_that_exclude_each_other_are_no_misspelling(capsys):
    assert main(["env", "--json", "-q"]) == 2
    stderr = json.loads(capsys.readouterr().err)
    assert "not allowed with argument" in stderr["error"]
    assert stderr["hint"] == "git theta env -h"


def test_options_are_never_guessed_from_their_beginning(capsys):
    assert main(["env", "--js"]) == 2
    assert "unrecognized" in capsys.readouterr().err


def test_errors_are_json_where_json_is_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["ls-files", "--json"]) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    stderr = json.loads(shown.err)
    assert stderr["exit_code"] == 3
    assert "not a git repository" in stderr["error"]


def test_an_interrupt_ends_with_130(monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("git_theta_ext.git.install.git_version", interrupted)
    assert main(["install"]) == 130


def test_an_oversight_of_ours_ends_with_a_code_that_git_takes_for_no_conflict(monkeypatch, capsys):
    def fail(_):
        raise LookupError("oversight")

    monkeypatch.setattr("git_theta_ext.cli.dispatch._dispatch", fail)
    assert main(["merge-driver"]) == 129
    stderr = capsys.readouterr().err
    assert "LookupError: oversight" in stderr
    assert "cli/dispatch.py" in stderr
    assert "GIT_THETA_TRACEBACK=1" in stderr
    assert "Traceback" not in stderr
    monkeypatch.setenv("GIT_THETA_TRACEBACK", "1")
    assert main(["merge-driver"]) == 129
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 4 bytes"),
    ],
    ids=["Python's", "torch's"],
)
def test_too_little_memory_is_no_oversight_of_ours(monkeypatch, capsys, error):
    def fail(_):
        raise error

    monkeypatch.setattr("git_theta_ext.cli.dispatch._dispatch", fail)
    assert main(["merge-driver"]) == 129
    stderr = capsys.readouterr().err
    assert stderr.startswith("git-theta: error: not enough memory\ngit-theta: hint: ")
    assert "Traceback" not in stderr


def test_a_closed_pipe_is_no_error_message():
    code = "import sys; from git_theta_ext.cli.main import main; sys.stdin.read(); sys.exit(main(['-h']))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


@pytest.mark.parametrize("name", internal_names())
def test_what_git_starts_loads_no_heavy_module(name):
    code = (
        "import sys, importlib; from git_theta_ext.cli import main\n"
        f"importlib.import_module('git_theta_ext.cli.plumbing.{name.replace('-', '_')}')\n"
        "print(sorted({'numpy', 'torch', 'git', 'obstore', 'rich', 'tensorstore', 'zstandard'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


def test_a_whole_run_of_the_filter_without_work_loads_no_heavy_module(repo):
    code = (
        "import sys; from git_theta_ext.cli.main import main; code = main(['filter-process'])\n"
        "print(sorted({'numpy', 'torch', 'git', 'rich'} & set(sys.modules)), code, file=sys.stderr)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=repo.path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdin.write(b"0016git-filter-client\n000eversion=2\n0000")
        process.stdin.flush()
        assert process.stdout.read(40) == b"0016git-filter-server\n000eversion=2\n0000"
        process.stdin.write(b"0015capability=clean\n0016capability=smudge\n0000")
        process.stdin.flush()
        assert process.stdout.read(47) == b"0015capability=clean\n0016capability=smudge\n0000"
        process.stdin.close()
        assert process.stderr.read() == b"[] 0\n"
