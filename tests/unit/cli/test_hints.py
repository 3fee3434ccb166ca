"""Every command that a message or a page of the documentation names can be typed."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest

from git_theta_ext import errors
from git_theta_ext.cli.discovery import command_names, internal_names, load
from git_theta_ext.cli.parser import Parser, parser_of
from git_theta_ext.cli.suggest import GIT_EQUIVALENTS, nearest
from git_theta_ext.errors import UsageError
from git_theta_ext.settings import SETTINGS

PROJECT = Path(__file__).parents[3]
ERRORS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.ThetaError)}
# The command ends at punctuation that no argument of ours has, or at the next command.
_END = r"(?= and git | then git |[;,`)&|…\"“\n]|$|\.(?:\s|$)|: |\? )"
_COMMAND = re.compile(r"(?:git[ -]|^X )theta (?!-|COMMAND|\.\.\.|…|[(<])([^;,`)&|…\"“\n]+?)'?" + _END)
_PROSE = re.compile(
    r"(?:COMMAND|and|is|has|did|does|process|itself|installed|cannot|tracks|manifest|of|merged|writes|keeps|no|to|calls|get|X|\d)\b"
)
_FILE_HEADER = re.compile(r"\w+ \d+$")


@cache
def _sources(folder: str) -> list[tuple[str, ast.AST]]:
    paths = sorted((PROJECT / folder).rglob("*.py"))
    return [(str(path.relative_to(PROJECT)), ast.parse(path.read_text())) for path in paths]


def _texts(tree: ast.AST) -> list[str]:
    """Return all texts of a module, with ``X`` for what is filled in, and without docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            texts.append("".join(str(p.value) if isinstance(p, ast.Constant) else "X" for p in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | inside:
            texts.append(node.value)
    return texts


def _commands() -> list[tuple[str, str]]:
    found = []
    for place, tree in [*_sources("git_theta_ext"), *_sources("plugins")]:
        for text in _texts(tree):
            found += [(place, match[1].strip()) for match in _COMMAND.finditer(text)]
    for path in [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]:
        for match in re.finditer(r"`git theta ([^`\n]+)`", path.read_text()):
            found.append((str(path.relative_to(PROJECT)), match[1].strip()))
    return [(p, command) for p, command in found if not (_PROSE.match(command) or _FILE_HEADER.match(command))]


COMMANDS_NAMED = sorted(set(_commands()))


def test_commands_are_found_in_messages() -> None:
    named = {command for _, command in COMMANDS_NAMED}
    assert {"checkout X", "fsck", "resolve X"} <= named
    assert len(named) > 80


@pytest.mark.parametrize(("place", "command"), COMMANDS_NAMED, ids=lambda text: text)
def test_a_named_command_can_be_typed(place: str, command: str) -> None:
    try:
        name, *words = shlex.split(command)
    except ValueError:
        name, *words = command.split()
    name = name.rstrip(".")
    assert name in {*command_names(), *internal_names()}, f"{place}: git theta {command}"
    parser = parser_of(name, load(name))
    known = {option for action in parser._actions for option in action.option_strings} | _nested_options(parser)
    options = [at for at, word in enumerate(words) if re.match(r"--?[a-z]", word)]
    for at in options:
        assert words[at].split("=")[0].rstrip(".") in known, f"{place}: git theta {command}"
    # A message may go on behind the command: "git theta checkout PATH fetches it".
    least = max(options, default=-1) + 1
    assert any(_parses(parser, words[:end]) for end in range(len(words), least - 1, -1)), (
        f"{place}: git theta {command}"
    )


def _parses(parser: Parser, words: list[str]) -> bool:
    for filled in ("1", "X", "local"):  # it may have to be a number, or a scope
        try:
            parser.parse_args([word.replace("X", filled) for word in words])
        except UsageError as error:
            if "are required" not in error.message and "is required" not in error.message:
                continue
        except SystemExit:  # -h
            pass
        return True
    return False


def _nested_options(parser: argparse.ArgumentParser) -> set[str]:
    """Return the options of a command's own subcommands."""
    choices = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    nested = [action for group in choices for inner in group.values() for action in inner._actions]
    return {option for action in nested for option in action.option_strings}


@pytest.mark.parametrize("name", sorted(GIT_EQUIVALENTS))
def test_a_command_of_git_is_answered_with_what_does_that_job(name: str) -> None:
    assert name not in command_names()
    assert GIT_EQUIVALENTS[name].startswith("git ")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("statsu", "status"),
        ("stauts", "status"),
        ("lsfiles", "ls-files"),
        ("fcsk", "fsck"),
        ("zzzz", None),
        ("x", None),
    ],
)
def test_the_nearest_command_is_the_one_that_was_meant(word: str, meant: str | None) -> None:
    assert nearest(word, command_names()) == meant


_AS_THEY_ARE = re.compile(
    r"setting\.|key$|TIMEOUT|FILE$|min\(unknown\)|commit\[:12\]|scope$|method$|strategy|branches|git_at_top|MAX_PARTS"
    r"|^COMMAND$|^(recipe\.|model\.recipe\.)?command$"
)
"""What holds no character that a shell reads otherwise."""


@cache
def _hints() -> list[tuple[str, str, list[str]]]:
    """Return place, text with ``X`` for what is filled in, and these expressions, of all hints of errors."""
    found = []
    for place, tree in [*_sources("git_theta_ext"), *_sources("plugins")]:
        calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
        for value in (word.value for call in calls for word in call.keywords if word.arg == "hint"):
            found += [(f"{place}:{value.lineno}", text, filled) for text, filled in _filled_texts(value)]
    return found


def _filled_texts(tree: ast.AST) -> list[tuple[str, list[str]]]:
    """Return the texts in code, with ``X`` for what is filled in, and these expressions."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = []
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        if isinstance(node, ast.JoinedStr):
            filled = [ast.unparse(part.value) for part in node.values if isinstance(part, ast.FormattedValue)]
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
            found.append((text, filled))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append((node.value, []))
    return found


def test_what_is_filled_into_a_command_is_quoted_for_the_shell() -> None:
    bare = [
        (place, value)
        for place, text, filled in _hints()
        for value in filled
        if re.match(r"(git|mkdir|rm|X theta) ", text) and not re.search(r"(quote|shell_word)\(|argument", value)
        if not _AS_THEY_ARE.search(value)
    ]
    assert bare == []


def test_a_path_in_a_command_is_as_the_user_types_it() -> None:
    from_top = [
        (place, text)
        for place, tree in _sources("git_theta_ext")
        for text, filled in _filled_texts(tree)
        if " theta " in text  # a script for the shell has paths of git
        if any(re.fullmatch(r"shell_word\((\w+\.)?paths?(\[0\])?\)", value) for value in filled)
    ]
    assert all(re.match(r"X theta track X", text) for _, text in from_top), from_top  # which runs at the top


def test_every_error_of_a_command_has_a_hint() -> None:
    bare = []
    for place, tree in _sources("git_theta_ext/cli"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ERRORS:
                bare += [f"{place}:{node.lineno}"] * all(word.arg != "hint" for word in node.keywords)
    assert bare == []


_TYPED = re.compile(
    r"(?:^|[ :(;,])"
    r"(?:git|pip|ray|aws|export|find|unset|mkdir|rm|cp|chmod|cd|model\.save\w*|safetensors\.[\w.]+|git_theta_ext\.)\b"
    r"|^X theta"
)
"""A command, or a call in Python."""
_NOTHING_TO_TYPE = {
    "check the URL of the API",
    "X --device cpu",  # a command, and an option
    "X X",  # a command, and an address
    "X; X",
    "X, and change the password",  # a command, and what to do there
    "X always work; X",
    "call module.requires_grad_()",
    "check permissions and free space in .git",
    "check permissions and free space there",
    "check the disk",
    "check the disk's space and permissions",
    "check the losses of the examples",
    "check the path, or save the file",
    "check the start-up files of the shell there: this must print nothing: X true",
    "copy it below X, or change to its repository",
    "did it mean X?",
    "did you mean X=X?",
    "did you mean X?",
    "free some space there and try again",
    "choose another name",
    "give credentials in the environment, and the rest as theta.remote.NAME.endpoint and .region",
    "give it the shape [rows, 1] or [1, columns], or list feedforward_modules in adapter_config.json",
    "give one weight for each side, ours first",
    "allow pushes to the branch theta/X",
    "also name the method, such as method=ties",
    "install git-theta X, which made the merge",
    "installed are X; other packages may provide more",
    "kinds are X",
    "leave it out",
    "merge the files with llama-gguf-split --merge",
    "pass one for each model, in the same order",
    "read it whole: get_tensor",
    "remove it there",
    "rename your module",
    "return model, examples, loss",
    "return one number",
    "save the checkpoint first",
    "see CONTRIBUTING.md",
    "see the traceback above",
    "stack the model of safetensors from which it was made",
    "try again later; what is complete is kept",
    "try again; downloaded packs are kept",
    "use --with train:statistics for the function statistics in train.py",
    "use another method, or rules that take a side for these parameters",
    "use numbers from X to X that are not all 0, and not below X otherwise",
    "use X or X",
    "use one of X",
    "wait until the file is written, then run the command again",
    "weights: [0.5, 0.5]",
    "weights: [0.7, 0.3]",
    "write the method into rules",
}


def test_a_hint_without_a_command_is_about_something_that_no_command_does() -> None:
    sentences = {text for _, text, _ in _hints() if text.strip(" ,") and " " in text}
    assert {text for text in sentences if not _TYPED.search(text)} <= _NOTHING_TO_TYPE
    assert not [text for text in sentences if re.search(r"<\w+>", text)]  # a shell reads a file


def test_every_setting_that_a_hint_names_exists() -> None:
    known = {re.sub("<name>", "X", setting.key).lower() for setting in SETTINGS}
    pattern = r"git config (?:--unset |-f \.thetaconfig )?(theta\.[\w.]*\w)"
    named = {name for _, text, _ in _hints() for name in re.findall(pattern, text.replace(".NAME.", ".X."))}
    assert len(named) > 4
    assert {name.lower() for name in named} - known <= {"theta.remote.x.x"}


def test_every_command_of_git_that_a_hint_names_exists() -> None:
    done = subprocess.run(["git", "--list-cmds=main,nohelpers"], capture_output=True, text=True, check=True)
    known = {*done.stdout.split(), "theta", "lfs", "sparse-checkout"}
    named = {(place, name) for place, text, _ in _hints() for name in re.findall(r"(?:^|[;`(] ?)git ([a-z-]+)", text)}
    assert len(named) > 20
    assert [place for place, name in named if name not in known] == []
