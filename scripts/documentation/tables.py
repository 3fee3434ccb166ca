"""Tables in Markdown, put between two comments of a page."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

from documentation import plugins
from documentation.commands import commands, usage
from git_theta_ext import errors, settings
from git_theta_ext.errors import PluginError, UsageError
from git_theta_ext.git.presets import PRESETS
from git_theta_ext.model.quantisation_schemes import ACTIVATIONS, SCHEMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from documentation.commands import Argument, Command
    from git_theta_ext.registry import Group

BAR = "\\|"
_BLOCK = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SIDES = (
    ("`ours`, `theirs`, `base`", "Takes one side; with several branches `theirs1`, `theirs2` and so on", "", ""),
    ("`conflict`", "Leaves a conflict", "", ""),
    ("`apply`", "Applies theirs' change to ours: ours + (theirs - base), exact in the element type", "", ""),
)

_OTHER_CODES = {
    0: "Success",
    1: "Conflicts are left, or a check found a difference",
    130: "The command was interrupted",
    141: "The reader of the output closed it",
}


def filled(page: str) -> str:
    """Return a page with every block between ``<!-- generated: NAME -->`` and ``<!-- end -->`` made anew.

    Raises:
        UsageError: There is no such block.
        PluginError: A command or a plug-in lacks what is shown of it.
    """
    return _BLOCK.sub(_block, page)


def _block(match: re.Match[str]) -> str:
    if match[2] not in BLOCKS:
        raise UsageError(f"needs one of the blocks {', '.join(BLOCKS)}, not {match[2]!r}")
    return f"{match[1]}\n{chr(10).join(BLOCKS[match[2]]())}\n\n{match[3]}"


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(titles)} |"
    yield "|---" * len(titles) + "|"
    for row in rows:
        cells = (f" {cell.replace('|', BAR)} " if cell else " " for cell in row)
        yield f"|{'|'.join(cells)}|"


def _commands() -> Iterator[str]:
    return _table(["command", "what it does"], [[f"`git theta {c.name}`", c.summary] for c in commands()])


def _reference() -> Iterator[str]:
    for title, members in groupby(commands(), key=lambda command: command.group):
        yield f"## {title}"
        for command in members:
            yield ""
            yield from _section(command)
        yield ""


def _section(command: Command) -> Iterator[str]:
    yield f"### {command.name}"
    yield ""
    yield f"{command.summary}."
    yield from (line for paragraph in command.details for line in ("", paragraph))
    yield from ("", "```sh", *usage(command), "```", "")
    arguments = [*command.positionals, *command.options]
    if arguments:
        yield from _table(["argument", "meaning"], [[_cell(argument), argument.help] for argument in arguments])
        yield ""
    yield from (f"Example: `{command.example}`",)


def _cell(argument: Argument) -> str:
    value = f" {argument.metavar}" if argument.metavar else ""
    if argument.count == "optional":
        value = f" [{argument.metavar}]"
    return ", ".join(f"`{flag}{value}`" for flag in argument.flags) or f"`{argument.metavar}`"


def _settings() -> Iterator[str]:
    for setting in settings.SETTINGS:
        if not (setting.kind and setting.summary):
            raise PluginError(f"git_theta_ext/settings.py: {setting.key} needs a kind and a summary")
    rows = [[f"`{s.key}`", s.kind, s.default and f"`{s.default}`", s.summary] for s in settings.SETTINGS]
    return _table(["setting", "type", "default", "meaning"], rows)


def _presets() -> Iterator[str]:
    rows = [
        [f"`{name}`", p.summary, ", ".join(f"`{pattern}`" for pattern in p.patterns)] for name, p in PRESETS.items()
    ]
    return _table(["preset", "files", "patterns"], rows)


def _environment() -> Iterator[str]:
    return _table(["variable", "meaning"], [[f"`{name}`", text] for name, text in settings.ENVIRONMENT.items()])


def exit_codes() -> list[tuple[int, str]]:
    """Return every exit code and its meaning."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and "exit_code" in vars(kind)]
    meanings = {kind.exit_code: (kind.__doc__ or "").partition("\n")[0].removesuffix(".") for kind in kinds}
    return sorted((meanings | _OTHER_CODES).items())


def _exit_codes() -> Iterator[str]:
    return _table(["code", "meaning"], [[str(code), text] for code, text in exit_codes()])


def _plugins(group: Group, title: str) -> Iterator[str]:
    return _table([title, "what it is"], [[f"`{name}`", text] for name, text in plugins.summaries(group).items()])


def _merges() -> Iterator[str]:
    rows = [
        [f"`{name}`", text, plugins.options(name), plugins.statistics(name)]
        for name, text in plugins.summaries("merges").items()
    ]
    return _table(["method", "what it does", "options and their defaults", "statistics"], [*_SIDES, *rows])


def _contract() -> Iterator[str]:
    return _table(["field", "default", "what it needs, promises or costs"], plugins.contract())


def _quantisation() -> Iterator[str]:
    rows = []
    for scheme in SCHEMES:
        common = set(ACTIVATIONS) if set(ACTIVATIONS) <= set(scheme.parts) else set()
        parts = [part for part in scheme.parts if part not in common]
        more = ["scales of activations"] if common else []
        rows.append(
            [
                scheme.name,
                scheme.tools,
                ", ".join(f"`{part}`" for part in scheme.numbers),
                ", ".join([*(f"`{part}`" for part in parts), *more]),
            ]
        )
    return _table(["scheme", "written by", "numbers", "other parts"], rows)


BLOCKS: dict[str, Callable[[], Iterable[str]]] = {
    "commands": _commands,
    "command-reference": _reference,
    "settings": _settings,
    "presets": _presets,
    "environment": _environment,
    "exit-codes": _exit_codes,
    "merges": _merges,
    "quantisation": _quantisation,
    "formats": lambda: _plugins("formats", "format"),
    "containers": lambda: _plugins("containers", "container"),
    "encodings": lambda: _plugins("encodings", "encoding"),
    "remotes": lambda: _plugins("remotes", "remote"),
    "merge-contract": _contract,
    **{f"example-{name}": lambda lines=lines: lines for name, lines in plugins.examples().items()},
}
"""Name of a block to the lines that go there."""
