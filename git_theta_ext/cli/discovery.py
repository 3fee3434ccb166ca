"""Find commands by the names of their modules, and describe them without importing them.

A command is a module of ``cli/commands/``, or of ``cli/plumbing/`` if git runs it. If Python reserves its name, the
module's name ends with an underscore. It has a docstring, whose first line is its summary, an ``EXAMPLE``, ``register``
and ``run``; a module of ``cli/commands/`` also has a ``GROUP``. Importing all of them takes a hundred times as long as
reading the summaries out of the sources.

A module of ``cli/plumbing/`` may also have ``given``, which returns what ``run`` takes for the words that git passes.
Git starts these programs often, and the import of a parser takes as long as a tenth of what they do.
"""

from __future__ import annotations

import importlib
import re
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from git_theta_ext.errors import PluginError
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    import argparse

GROUPS = {
    "start": "Get started",
    "daily": "Work with checkpoints",
    "share": "Share models",
    "merge": "Merge models",
    "maintain": "Maintain a repository",
}
"""Values of ``GROUP``, in the order of the overview, and their titles."""

_HERE = Path(__file__).parent
_SUMMARY = re.compile(r'"""([^\n]+?)\.(?:"""|\n)')
_GROUP = re.compile(r'^GROUP = "(\w+)"$', re.MULTILINE)
_PARTS = {
    "EXAMPLE": "a constant EXAMPLE with a command line",
    "register": "a function register(parser), which adds the arguments",
    "run": "a function run(args), which returns the exit code",
}


class Command(Protocol):
    """What the module of a command has."""

    EXAMPLE: str

    def register(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Run the command and return the exit code."""
        ...


@dataclass(frozen=True)
class Description:
    """A command in the overview.

    Attributes:
        name: What users type.
        group: A key of ``GROUPS``.
        summary: The first line of the docstring, without the full stop.
    """

    name: str
    group: str
    summary: str


def command_names() -> tuple[str, ...]:
    """Return the names of the commands that users run, in alphabetical order."""
    return _names(_HERE / "commands")


def internal_names() -> tuple[str, ...]:
    """Return the names of the commands that git runs, in alphabetical order."""
    return _names(_HERE / "plumbing")


def _names(folder: Path) -> tuple[str, ...]:
    files = [path.name for path in folder.iterdir()]  # a glob compiles an expression
    stems = [name.removesuffix(".py") for name in files if name.endswith(".py") and not name.startswith("_")]
    return tuple(sorted(stem.rstrip("_").replace("_", "-") for stem in stems))


def descriptions() -> list[Description]:
    """Describe the commands that users run, group by group.

    Raises:
        PluginError: The module of a command lacks something.
    """
    commands = [_describe(name) for name in command_names()]
    return sorted(commands, key=lambda description: list(GROUPS).index(description.group))


def _describe(name: str) -> Description:
    path = _path("commands", name)
    source = path.read_text(encoding="utf-8")
    summary, group = _SUMMARY.match(source), _GROUP.search(source)
    if summary is None:
        raise _lacking(path, "a docstring at its beginning, whose first line is a summary that ends with a full stop")
    if group is None or group[1] not in GROUPS:
        raise _lacking(path, f'a line GROUP = "..." with one of {", ".join(GROUPS)}')
    return Description(name, group[1], summary[1])


def load(name: str) -> Command:
    """Import a command.

    Raises:
        PluginError: The module lacks something.
    """
    package = "plumbing" if name in internal_names() else "commands"
    module = importlib.import_module(f"git_theta_ext.cli.{package}.{_module(name)}")
    for part, what in _PARTS.items():
        if not hasattr(module, part):
            raise _lacking(_path(package, name), what)
    return cast("Command", module)


def given_by_git(command: Command, words: list[str]) -> argparse.Namespace | None:
    """Return the arguments of a command that git runs; None if they need a parser, such as for the help."""
    given = getattr(command, "given", None)
    if given is None or words in (["-h"], ["--help"]):
        return None
    return cast("argparse.Namespace | None", given(words))


def _path(package: str, name: str) -> Path:
    return _HERE / package / f"{_module(name)}.py"


def _lacking(path: Path, what: str) -> PluginError:
    return PluginError(f"{path.relative_to(_HERE.parents[1])} needs {what}", hint="see CONTRIBUTING.md")


def _module(name: str) -> str:
    return f"{name}_" if iskeyword(name) else name.replace("-", "_")
