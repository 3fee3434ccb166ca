"""The command ``git theta``: finds the subcommand, imports only that, and turns errors into messages."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from git_theta_ext.cli.output import Output, wants_color
from git_theta_ext.cli.process import accept_any_name, begin, silence
from git_theta_ext.cli.suggest import GIT_DOES, nearest
from git_theta_ext.errors import ThetaError, UsageError, understood
from git_theta_ext.git.notes import say
from git_theta_ext.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

TRACEBACK = "GIT_THETA_TRACEBACK"
"""Environment variable that asks for the traceback of an error that nobody thought of."""

_INTERRUPTED = 130
_BROKEN_PIPE = 141

# Name to summary; the module is the name with underscores. Those that git calls have no place in the help.
COMMANDS = {
    "install": "tell git about the filter, the drivers and the hook",
    "uninstall": "take back what install did",
    "track": "put checkpoints that match a pattern under git theta",
    "untrack": "leave checkpoints that match a pattern to git alone",
    "add": "stage checkpoints, faster than git add",
    "checkout": "write checkpoints whose place in the work tree holds only a manifest",
    "status": "show which parameters changed, what is pending and what is not pushed",
    "push": "upload parameters that history names and a remote lacks",
    "ls-files": "list checkpoints and their parameters",
    "show": "describe a checkpoint or one of its parameters",
    "export": "write a version of a checkpoint to a file",
    "compress": "reduce the difference of two models to a small, lossy update",
    "stats": "collect what some merge methods need to know of a checkpoint, or show it",
    "merge": "look at merges: what one would do, and whether doing it again gives the same bits",
    "resolve": "settle what a merge left undecided",
    "mergetool": "settle what a merge left undecided by question and answer",
    "gc": "hold versions as differences from each other, and remove what nobody needs",
    "fsck": "check that everything is stored, intact and tracked as it should be",
    "prune": "drop parameters here that a remote holds and nothing here needs",
    "du": "show where the bytes are: by version, encoding and parameter",
    "env": "print versions and settings for a bug report",
}
INTERNAL = ("filter-process", "diff-driver", "merge-driver", "hook")


class Command(Protocol):
    """What each module of a subcommand has."""

    EXAMPLE: str

    def register(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Do it and return the exit code."""
        ...


class Parser(argparse.ArgumentParser):
    """Reports mistakes as ``UsageError``, with the nearest known option as a hint."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UsageError(message, hint=self._hint(message))

    def _hint(self, message: str) -> str:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            known = [option for action in self._actions for option in action.option_strings]
            for word in unknown.split():
                if word.startswith("-") and (near := nearest(word.split("=")[0], known)):
                    return f"did you mean {near}?"
        return f"{self.prog} -h"


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``git theta`` with the given arguments, the process's own where None, and return the exit code."""
    if argv is None:
        begin()
    arguments = list(sys.argv[1:] if argv is None else argv)
    accept_any_name()
    output = Output("json" if "--json" in arguments else "human", color=wants_color())
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Somebody else closed our output, as `| head` does; Python must not complain again when it exits.
        silence(sys.stdout.fileno())
        return _BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - git needs a code that is no answer
        return failed(output, error)
    return code


def failed(output: Output, error: Exception) -> int:
    """Print what went wrong, whatever it was, and return the exit code."""
    if os.environ.get(TRACEBACK) and not isinstance(error, ThetaError):
        say("".join(traceback.format_exception(error)))
    told = understood(error)
    output.error(told)
    return told.exit_code


def _dispatch(arguments: list[str]) -> int:
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help", "help"):
        Output("human").result(None, _overview())
        return 0
    if name in ("--version", "version"):
        Output("human").result(None, [f"git-theta {__version__}"])
        return 0
    if name not in COMMANDS and name not in INTERNAL:
        kind = "option" if name.startswith("-") else "command"
        near = nearest(name, [*COMMANDS, "--help", "--version"])
        hint = GIT_DOES.get(name) or (f"did you mean {near}?" if near else "git theta -h")
        raise UsageError(f"git theta has no {kind} {name!r}", hint=hint)
    folder = "plumbing" if name in INTERNAL else "commands"
    command = cast("Command", importlib.import_module(f"git_theta_ext.cli.{folder}.{name.replace('-', '_')}"))
    parser = Parser(
        prog=f"git theta {name}",
        description=command.__doc__,
        epilog=f"example:\n  {command.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.register(parser)
    words = arguments[1:]
    if name in INTERNAL and words not in ([], ["-h"], ["--help"]):
        words = ["--", *words]  # git passes paths, which may look like options
    try:
        return command.run(parser.parse_args(words))
    except SystemExit as leaving:  # argparse, after it printed the help
        return int(leaving.code or 0)


def _overview() -> list[str]:
    width = max(map(len, COMMANDS))
    lines = [
        "usage: git theta COMMAND [ARGUMENTS]",
        "",
        "Versions the parameters of machine-learning models in git.",
        "",
    ]
    lines += [f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items()]
    lines += ["", "git theta COMMAND -h explains one of them.", "", "example:"]
    return [*lines, "  git theta install && git theta track '*.safetensors' && git add model.safetensors"]
