"""The man page."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from documentation.commands import commands, synopsis
from documentation.tables import exit_codes
from git_theta_ext import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from documentation.commands import Argument, Command

_TEMPLATE = Path(__file__).with_name("git-theta.1.in")
_METAVAR = re.compile(r"\b[A-Z]{2,}\b|\b[A-Z]\b(?=[\]|=,: ]|$)|<name>")


def page() -> str:
    """Return the man page."""
    text = _TEMPLATE.read_text(encoding="utf-8")
    for name, lines in (
        ("COMMANDS", _commands()),
        ("SETTINGS", _settings()),
        ("ENVIRONMENT", _environment()),
        ("EXIT_STATUS", (f"{code}\t{_escaped(meaning)}" for code, meaning in exit_codes())),
    ):
        text = text.replace(f"@{name}@", "\n".join(lines))
    return text


def _commands() -> Iterator[str]:
    for title, members in groupby(commands(), key=lambda command: command.group):
        yield f'.SS "{title}"'
        for command in members:
            yield from _command(command)


def _command(command: Command) -> Iterator[str]:
    yield ".TP"
    yield _synopsis(command)
    yield f"{_escaped(command.summary)}."
    for paragraph in command.details:
        yield ".IP"
        yield _escaped(paragraph)
    for argument in (*command.positionals, *command.options):
        yield ".RS"
        yield ".TP"
        yield _term(argument)
        yield _sentence(argument.help)
        yield ".RE"
    yield ".IP"
    yield f"Example: {_bold(command.example)}"


def _synopsis(command: Command) -> str:
    words = [_bold(command.name)]
    for alternatives in synopsis(command):
        inner = " | ".join(_typed(word[1:-1] if len(alternatives) > 1 else word) for word in alternatives)
        words.append(f"[{inner}]" if len(alternatives) > 1 else inner)
    return " ".join(words)


def _term(argument: Argument) -> str:
    value = f"[{argument.metavar}]" if argument.count == "optional" else argument.metavar
    return ", ".join(_typed(f"{flag} {value}".strip()) for flag in argument.flags) or _typed(argument.metavar)


def _typed(word: str) -> str:
    """Set what is typed as it is in bold, and what stands for something else in italics."""
    parts, at = [], 0
    for match in _METAVAR.finditer(word):
        parts += [_literal(word[at : match.start()]), f"\\fI{_escaped(match[0])}\\fR"]
        at = match.end()
    return "".join([*parts, _literal(word[at:])])


def _literal(text: str) -> str:
    return re.sub(r"[\w<>.-]*[\w<>-][\w<>.-]*", lambda match: _bold(match[0]), text)


def _settings() -> Iterator[str]:
    for setting in settings.SETTINGS:
        yield ".TP"
        default = f", default {setting.default}" if setting.default else ""
        yield f"{_key(setting.key)} ({_escaped(setting.kind + default)})"
        yield _markdown(setting.summary)


def _key(key: str) -> str:
    return "".join(f"\\fI{part}\\fR" if part == "name" else _bold(part) for part in re.split("[<>]", key) if part)


def _environment() -> Iterator[str]:
    for name, meaning in settings.ENVIRONMENT.items():
        yield ".TP"
        yield _bold(name)
        yield _markdown(meaning)


def _markdown(text: str) -> str:
    return "".join(_bold(part) if at % 2 else _escaped(part) for at, part in enumerate(text.split("`")))


def _sentence(text: str) -> str:
    return _escaped(text[:1].upper() + text[1:] + ".")


def _bold(text: str) -> str:
    return f"\\fB{_escaped(text)}\\fR" if text else ""


def _escaped(text: str) -> str:
    """Return text for roff, in which a hyphen is typed as it is and no line begins a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
