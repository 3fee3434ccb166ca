"""The command ``git theta``: finds the subcommand, imports only that, and turns errors into messages."""

from __future__ import annotations

import os
import sys
from itertools import groupby
from typing import TYPE_CHECKING

from git_theta_ext.cli.discovery import GROUPS, command_names, descriptions, given_by_git, internal_names, load
from git_theta_ext.cli.output import Output, output_to_git, wants_color
from git_theta_ext.cli.process import accept_any_name, begin, silence
from git_theta_ext.cli.suggest import GIT_EQUIVALENTS, SYNONYMS, nearest
from git_theta_ext.errors import ThetaError, UsageError, to_theta_error
from git_theta_ext.util.text import printable
from git_theta_ext.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TRACEBACK = "GIT_THETA_TRACEBACK"
"""Environment variable that enables the traceback of a bug."""

_WIDTH = 100
_NARROWEST = 40
_INTERRUPTED = 130
_BROKEN_PIPE = 141


def run(argv: Sequence[str] | None = None) -> int:
    """Run ``git theta`` and return its exit code.

    Args:
        argv: The arguments; None for those of the process.
    """
    if argv is None:
        begin()
    arguments = list(sys.argv[1:] if argv is None else argv)
    accept_any_name()
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of the output is gone, as with `| head`. Python must not complain about it when it exits.
        silence(sys.stdout.fileno())
        return _BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - git reads low exit codes as answers
        return failed(_output(arguments), error)
    return code


def failed(output: Output, error: Exception) -> int:
    """Print an error of any kind and return the exit code."""
    if os.environ.get(TRACEBACK) and not isinstance(error, ThetaError):
        import traceback  # commands that do not fail start without it

        output.say(printable("".join(traceback.format_exception(error))))
    failure = to_theta_error(error)
    output.error(failure)
    return failure.exit_code


def _output(arguments: Sequence[str]) -> Output:
    if arguments[:1] and arguments[0] in internal_names():
        return output_to_git()
    return Output("json" if "--json" in arguments else "human", color=wants_color())


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["help"] and {*arguments[1:2]} & {*command_names(), *internal_names(), *SYNONYMS}:
        arguments = [arguments[1], "-h"]
    arguments = [SYNONYMS.get(word, word) for word in arguments[:1]] + arguments[1:]
    if arguments in ([], ["--json"]):
        from git_theta_ext.cli.overview import show

        return show(_output(arguments))
    name = arguments[0]
    if name in ("-h", "--help") or arguments == ["help"]:
        Output("human").text(_overview())
        return 0
    if name in ("--version", "version"):
        Output("human").text([f"git-theta {__version__}"])
        return 0
    internal = internal_names()
    if name not in (names := command_names()) and name not in internal:
        kind = "option" if name.startswith("-") else "command"
        near = nearest(name, [*names, "--help", "--version"])
        hint = GIT_EQUIVALENTS.get(name) or (f"did you mean {near}?" if near else "git theta -h")
        raise UsageError(f"unknown {kind} {name!r}", hint=hint)
    command = load(name)
    words = arguments[1:]
    given = given_by_git(command, words) if name in internal else None
    if given is not None:
        return command.run(given)
    from git_theta_ext.cli.parser import parser_of

    parser = parser_of(name, command)
    if name in internal and words not in ([], ["-h"], ["--help"]):
        words = ["--", *words]  # git passes paths, which can look like options
    try:
        return command.run(parser.parse(words))
    except SystemExit as leaving:  # argparse, after it printed the help
        return int(leaving.code or 0)


def _overview() -> Iterator[str]:
    from shutil import get_terminal_size  # other commands start without these
    from textwrap import wrap

    from git_theta_ext.cli.topics import topics

    commands = descriptions()
    width = max(len(command.name) for command in commands)
    screen = get_terminal_size((0, 0)).columns or sys.maxsize
    yield "usage: git theta COMMAND [ARGUMENTS]"
    yield ""
    yield "Version the parameters of machine-learning models in git."
    for group, members in groupby(commands, key=lambda command: command.group):
        yield ""
        yield GROUPS[group]
        for command in members:
            name, indent = f"  {command.name:{width}}  ", " " * (width + 4)
            yield from wrap(
                command.summary, max(screen, 2 * len(indent)), initial_indent=name, subsequent_indent=indent
            )
    yield ""
    yield "git theta COMMAND -h explains a command. git theta help TOPIC shows a page:"
    names = ", ".join(topics())
    yield from wrap(names, min(screen, _WIDTH), initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    yield ""
    yield "example:"
    yield "  git theta install && git theta track '*.safetensors' && git add ."
