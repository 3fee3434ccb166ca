"""The commands, as their modules and parsers describe them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from git_theta_ext import registry
from git_theta_ext.cli.discovery import GROUPS, command_names, descriptions, load
from git_theta_ext.cli.parser import parser_of
from git_theta_ext.cli.topics import topics
from git_theta_ext.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_theta_ext.cli.parser import Parser

FILES, REVISIONS, VERSIONS, REMOTES = "files", "revisions", "versions", "remotes"
"""What a shell offers: files, commits, ``REV:PATH`` or files, and git remotes."""

COMMON = ("--help", "--json", "--quiet")
"""Options of every command."""

_WIDTH = 80
"""Characters of a line of a usage."""

_COUNTS = {None: "one", 0: "one", "?": "optional", "*": "any", "+": "some"}
_BY_METAVAR = {
    "CHECKPOINT": FILES,
    "FILE": FILES,
    "NEW": VERSIONS,
    "OLD": VERSIONS,
    "PATH": FILES,
    "PATH|PARAM": FILES,
    "PATTERN": FILES,
    "REF": REVISIONS,
    "REMOTE": REMOTES,
    "REV": REVISIONS,
    "REV:PATH": VERSIONS,
}


@dataclass(frozen=True)
class Argument:
    """An option or a positional argument.

    Attributes:
        flags: Of an option, the short one first; empty for a positional argument.
        metavar: Name of the value; empty if the option takes none.
        count: ``one``, ``optional``, ``any`` or ``some`` (one or more) values.
        required: Whether an option must be given.
        repeated: Whether an option may be given several times.
        help: What it is for.
        words: The values that a shell offers.
        offers: What else it offers: one of the constants above, or nothing.
    """

    flags: tuple[str, ...]
    metavar: str
    count: str
    required: bool
    repeated: bool
    help: str
    words: tuple[str, ...]
    offers: str

    @property
    def long(self) -> str:
        """The option's long name, or the only one that it has."""
        return self.flags[-1]


@dataclass(frozen=True)
class Command:
    """A command that users run.

    Attributes:
        name: What users type.
        group: Title of its group.
        summary: One line, without a full stop.
        details: Further paragraphs.
        options: Without those of all commands.
        groups: Flags of options that exclude each other.
        positionals: In their order.
        example: A command line.
    """

    name: str
    group: str
    summary: str
    details: tuple[str, ...]
    options: tuple[Argument, ...]
    groups: tuple[tuple[str, ...], ...]
    positionals: tuple[Argument, ...]
    example: str


@cache
def commands() -> list[Command]:
    """Return all commands that users run, group by group."""
    return [_command(command.name, GROUPS[command.group], command.summary) for command in descriptions()]


def _command(name: str, group: str, summary: str) -> Command:
    module = load(name)
    parser = parser_of(name, module)
    arguments = list(_arguments(name, parser))
    paragraphs = (module.__doc__ or "").strip().split("\n\n")[1:]
    exclusive = [tuple(a.option_strings[-1] for a in g._group_actions) for g in parser._mutually_exclusive_groups]
    return Command(
        name,
        group,
        summary,
        tuple(" ".join(text.split()) for text in paragraphs),
        tuple(argument for argument in arguments if argument.flags),
        tuple(flags for flags in exclusive if flags[0] not in COMMON),
        tuple(argument for argument in arguments if not argument.flags),
        module.EXAMPLE,
    )


def _arguments(name: str, parser: Parser) -> Iterator[Argument]:
    """Yield the arguments of a command, and those of its actions, each once."""
    for action in parser._actions:
        if set(COMMON) & set(action.option_strings):
            continue
        if isinstance(action, argparse._SubParsersAction):
            yield _action(action)
            nested = (argument for inner in action.choices.values() for argument in _arguments(name, inner))
            yield from {argument.flags or argument.metavar: argument for argument in nested}.values()
            continue
        if not action.help or action.nargs not in _COUNTS:
            argument = "/".join(action.option_strings) or action.dest
            what = "a text as help" if not action.help else f"nargs to be one of {[*_COUNTS][1:]}"
            path = f"git_theta_ext/cli/commands/{name.replace('-', '_')}.py"
            raise PluginError(f"{path}: the argument {argument} needs {what}")
        yield _argument(action)


def _action(actions: argparse._SubParsersAction[Parser]) -> Argument:
    shown = "; ".join(f"{choice.dest}: {choice.help}" for choice in actions._choices_actions)
    return Argument(
        flags=(),
        metavar=str(actions.metavar),
        count="one",
        required=actions.required,
        repeated=False,
        help=shown,
        words=tuple(actions.choices),
        offers="",
    )


def _argument(action: argparse.Action) -> Argument:
    takes = action.nargs != 0
    words = tuple(map(str, action.choices or ()))
    metavar = action.metavar if isinstance(action.metavar, str) else "|".join(words)
    return Argument(
        tuple(action.option_strings),
        metavar if takes else "",
        _COUNTS[action.nargs],
        action.required,
        action.default == [],
        action.help or "",
        words or _words(metavar),
        _BY_METAVAR.get(metavar, ""),
    )


def _words(metavar: str) -> Sequence[str]:
    """Return the values of which a metavar stands for one."""
    if metavar == "METHOD":
        return ("ours", "theirs", "base", *registry.built_in("merges"))
    if metavar == "KIND=FILE":
        return tuple(f"{kind}=" for kind in registry.built_in("updates"))
    if metavar == "TOPIC":
        return (*topics(), *command_names())
    return registry.built_in("statistics") if metavar == "KIND,KIND" else ()


def synopsis(command: Command) -> Iterator[tuple[str, ...]]:
    """Yield what may follow a command's name: alternatives, each as it is typed, for every argument."""
    grouped = {flag: flags for flags in command.groups for flag in flags}
    actions = [positional for positional in command.positionals if positional.words]
    for action in actions:
        yield (_typed(action),)
    for option in command.options:
        flags = grouped.get(option.long, (option.long,))
        if option.long == flags[0]:
            yield tuple(_typed(other) for other in command.options if other.long in flags)
    for positional in command.positionals:
        if positional not in actions:
            yield (_typed(positional),)


def _typed(argument: Argument) -> str:
    word = " ".join([*argument.flags[-1:], *([_value(argument)] if argument.metavar else [])])
    optional = argument.flags and not argument.required
    return (f"[{word}]" if optional else word) + (" ..." if argument.repeated else "")


def _value(argument: Argument) -> str:
    name = argument.metavar
    return {"one": name, "optional": f"[{name}]", "any": f"[{name} ...]", "some": f"{name} ..."}[argument.count]


def usage(command: Command) -> Iterator[str]:
    """Yield the lines of a command with all arguments, but for those that every command takes.

    A line has at most 80 characters, unless it is one argument with its alternatives.
    """
    words = []
    for alternatives in synopsis(command):
        inner = " | ".join(word[1:-1] if len(alternatives) > 1 else word for word in alternatives)
        words.append(f"[{inner}]" if len(alternatives) > 1 else inner)
    line = f"git theta {command.name}"
    indent = " " * len(line)
    for word in words:
        if len(line) + len(word) >= _WIDTH and line != indent:
            yield line
            line = indent
        line += f" {word}"
    yield line
