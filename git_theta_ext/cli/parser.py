"""Parse the arguments of a command."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NoReturn

from git_theta_ext.cli.suggest import nearest
from git_theta_ext.errors import UsageError

if TYPE_CHECKING:
    from git_theta_ext.cli.discovery import Command


class Parser(argparse.ArgumentParser):
    """Reports mistakes as ``UsageError``, with a similar option as a hint."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UsageError(message, hint=self._hint(message))

    def _hint(self, message: str) -> str:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            options = [option for action in self._actions for option in action.option_strings]
            for word in unknown.split():
                if word.startswith("-") and (near := nearest(word.split("=")[0], options)):
                    return f"did you mean {near}?"
        return f"{self.prog} -h"


def parser_of(name: str, command: Command) -> Parser:
    """Return the parser of a command's arguments."""
    parser = Parser(
        prog=f"git theta {name}",
        description=command.__doc__,
        epilog=f"example:\n  {command.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.register(parser)
    return parser
