"""Parse the arguments of a command."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NoReturn

from git_theta_ext.cli.suggest import GIT_OPTIONS, nearest
from git_theta_ext.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.cli.discovery import Command


class RevisionsAndPaths(argparse.Action):
    """Takes revisions and paths as git does, where what follows ``--`` is a path."""

    def __call__(  # noqa: D102 - argparse's
        self,
        parser: object,  # noqa: ARG002 - argparse passes it
        namespace: argparse.Namespace,
        values: object,
        option: object = None,  # noqa: ARG002 - argparse passes it
    ) -> None:
        setattr(namespace, self.dest, values)


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Fills paragraphs, but for those with an indented line, such as an example."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        from textwrap import fill

        paragraphs = text.strip().split("\n\n")
        filled = (part if "\n " in part else fill(part, width, break_on_hyphens=False) for part in paragraphs)
        return super()._fill_text("\n\n".join(filled), width, indent)


class Parser(argparse.ArgumentParser):
    """Reports mistakes as ``UsageError``, with a similar option as a hint."""

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse arguments. Options may stand anywhere among the others, as in commands of git.

        A command that takes ``RevisionsAndPaths`` gets what follows ``--`` as ``paths``, or None if there is no ``--``.
        Other commands with ``--`` take options only before their first other argument.
        """
        for action in self._actions:
            if isinstance(parsers := action.choices, dict) and words and words[0] in parsers:
                args: argparse.Namespace = parsers[words[0]].parse(words[1:])
                setattr(args, action.dest, words[0])
                return args
        if not any(isinstance(action, RevisionsAndPaths) for action in self._actions):
            # argparse drops a -- that comes first, and refuses to do it for commands that have actions.
            in_order = "--" in words or self._subparsers is not None
            return self.parse_args(words) if in_order else self.parse_intermixed_args(words)
        end = words.index("--") if "--" in words else len(words)
        args = self.parse_intermixed_args(words[:end])
        args.paths = list(words[end + 1 :]) if "--" in words else None
        return args

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UsageError(message, hint=self._hint(message))

    def _hint(self, message: str) -> str:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            options = [option for action in self._actions for option in action.option_strings]
            for word in unknown.split():
                if hint := GIT_OPTIONS.get(f"{self.prog} {word}"):
                    return hint
                if word.startswith("-") and (near := nearest(word.split("=")[0], options)):
                    return f"did you mean {near}?"
        return f"{self.prog} -h"


def parser_of(name: str, command: Command) -> Parser:
    """Return the parser of a command's arguments."""
    parser = Parser(
        prog=f"git theta {name}",
        description=command.__doc__,
        epilog=f"example:\n  {command.EXAMPLE}",
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    command.register(parser)
    return parser
