"""The lines of ``.gitattributes`` that make files checkpoints.

Source: ``gitattributes(5)``. Lines for other patterns stay as they are, byte for byte.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_theta_ext.errors import UsageError
from git_theta_ext.git.attributes import FORMAT_ATTRIBUTE
from git_theta_ext.records import dataclass
from git_theta_ext.util.files import replace_content, reporting_os_errors
from git_theta_ext.util.quoting import quoted, shell_word, unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_OURS = {"filter": "filter=theta", "diff": "diff=theta", "merge": "merge=theta", "text": "-text"}
_LFS = frozenset({"filter=lfs", "diff=lfs", "merge=lfs"})
# Another filter or a line-ending conversion would change the checkpoint's bytes. The rest is the user's choice.
_EXCLUSIVE = ("filter", "text")
_BLANK = " \t\r\n"
_MACRO = "[attr]"
_MAX_LINE = 2047
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_STATE = re.compile(r"[^ \t\r\n]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\(?:[abfnrtv"\\]|[0-3][0-7]{2}))*)"')
_NEEDS_QUOTES = re.compile(r'^[#"]|[\x00-\x20\x7f]')


@dataclass(frozen=True, slots=True)
class Added:
    """The result of adding a pattern.

    Attributes:
        text: The new ``.gitattributes``.
        kept: Attributes of the same pattern, such as ``diff=other``, that are kept instead of ours.
        replaced: Attributes of Git LFS that ours replace.
    """

    text: str
    kept: tuple[str, ...]
    replaced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A line that gives attributes to a pattern.

    Attributes:
        pattern: Without quotes.
        states: The attributes, as ``filter=theta`` or ``-text``.
        states_at: Where they begin in the line.
    """

    pattern: str
    states: tuple[str, ...]
    states_at: int


def read(path: Path) -> str:
    """Return the text of a ``.gitattributes`` file, or an empty string if it does not exist.

    Bytes that are not UTF-8 become surrogate escapes.
    """
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""


def write(path: Path, text: str) -> None:
    """Write text to a ``.gitattributes`` file; surrogate escapes become the bytes that ``read`` made them from.

    Raises:
        StoreError: The file cannot be written; it is unchanged.
    """
    with reporting_os_errors(path):
        replace_content(path, text.encode("utf-8", "surrogateescape"))


def patterns(text: str) -> list[str]:
    """List the patterns whose lines set our filter, in order, each once."""
    return list(dict.fromkeys(rule.pattern for _, rule in rules(text) if rule and _OURS["filter"] in rule.states))


def add(text: str, pattern: str, format_name: str | None = None) -> Added:
    """Track the files that match a pattern, as files of a format if one is named.

    If the pattern has a line, the line is completed; otherwise a line is appended. Attributes that give the pattern to
    Git LFS are removed: its drivers would read manifests as pointers.

    Raises:
        UsageError: Git does not accept the pattern, or the pattern has another filter or is declared as text.
    """
    word = quote_pattern(pattern)
    pattern = pattern if not pattern.startswith("!") else "\\" + pattern
    text, replaced = _without(text, pattern, _LFS.__contains__)
    chosen = [] if format_name is None else [f"{FORMAT_ATTRIBUTE}={format_name}"]
    if chosen:
        text, _ = _without(text, pattern, lambda state: _name(state) == FORMAT_ATTRIBUTE and state not in chosen)
    found = list(rules(text))
    same = [n for n, (_, rule) in enumerate(found) if rule and rule.pattern == pattern]
    states = {_name(state): state for n in same for state in _states(found[n][1])}
    others = [states[name] for name, ours in _OURS.items() if states.get(name) not in {ours, None, f"!{name}"}]
    for state in others:
        if _name(state) in _EXCLUSIVE:
            raise UsageError(
                f".gitattributes already sets {state!r} for {pattern!r}",
                hint=f"remove {state!r} from that line, then git theta track {shell_word(pattern)}",
            )
    missing = [ours for name, ours in _OURS.items() if states.get(name) in {None, f"!{name}"}]
    missing += [state for state in chosen if states.get(FORMAT_ATTRIBUTE) != state]
    kept = tuple(others)
    if not missing:
        return Added(text, kept, replaced)
    lines = [line for line, _ in found]
    ending = "\r\n" if lines and lines[-1].endswith("\r\n") else "\n"
    if same:
        body = lines[same[-1]].rstrip(_BLANK)
        lines[same[-1]] = " ".join([body, *missing]) + lines[same[-1]][len(body) :].lstrip(" \t")
        changed = lines[same[-1]]
    else:
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        changed = " ".join([word, *missing]) + ending
        lines.append(changed)
    if len(changed.encode("utf-8", "surrogateescape")) > _MAX_LINE:
        raise UsageError(f"git ignores lines of more than {_MAX_LINE} bytes, as the one for {pattern!r} would be")
    return Added("".join(lines), kept, replaced)


def remove(text: str, pattern: str) -> str:
    """Stop tracking the files that match a pattern.

    Other attributes of the pattern stay, and so does a ``-text`` that comes before our filter.

    Returns:
        The new text, which is the same if the pattern was not tracked.
    """
    wanted = {pattern, "\\" + pattern} if pattern.startswith("!") else {pattern}
    lines = []
    for line, rule in rules(text):
        if rule is None or rule.pattern not in wanted or _OURS["filter"] not in rule.states:
            lines.append(line)
        elif (rest := _without_ours(line, rule.states_at)) is not None:
            lines.append(rest)
    return "".join(lines)


def _without(text: str, pattern: str, unwanted: Callable[[str], bool]) -> tuple[str, tuple[str, ...]]:
    lines = []
    replaced: list[str] = []
    for line, rule in rules(text):
        states = [state for state in _states(rule) if unwanted(state)]
        if rule is None or rule.pattern != pattern or not states:
            lines.append(line)
            continue
        replaced += states
        rest = [state for state in rule.states if not unwanted(state)]
        lines.append(" ".join([line[: rule.states_at].rstrip(_BLANK), *rest]) + line[len(line.rstrip("\r\n")) :])
    return "".join(lines), tuple(replaced)


def _without_ours(line: str, states_at: int) -> str | None:
    parts = [line[:states_at].rstrip(_BLANK)]
    filtered = False
    end = states_at
    for match in _STATE.finditer(line, states_at):
        state = match[0]
        filtered = filtered or state == _OURS["filter"]
        ours = state in _OURS.values() and (filtered or state != _OURS["text"])
        if not ours and _name(state) != FORMAT_ATTRIBUTE:
            parts.append(line[end : match.start()] + state)
        end = match.end()
    return "".join(parts) + line[end:] if len(parts) > 1 else None


def rules(text: str) -> Iterator[tuple[str, Rule | None]]:
    """Yield each line unchanged, with its rule; None for a comment, an empty line, or a macro."""
    for n, line in enumerate(_LINE.findall(text)):
        yield line, _rule(line, len(line) - len(line.removeprefix("\ufeff")) if n == 0 else 0)


def _rule(line: str, start: int) -> Rule | None:
    while start < len(line) and line[start] in _BLANK:
        start += 1
    if start == len(line) or line[start] == "#":
        return None
    in_quotes = _QUOTED.match(line, start)
    word = in_quotes or _STATE.match(line, start)
    assert word is not None
    pattern = unquote(in_quotes[1]) if in_quotes else word[0]
    if pattern.startswith((_MACRO, "!")):
        return None
    return Rule(pattern, tuple(_STATE.findall(line, word.end())), word.end())


def _states(rule: Rule | None) -> tuple[str, ...]:
    return rule.states if rule else ()


def _name(state: str) -> str:
    return state.lstrip("-!").partition("=")[0]


def quote_pattern(pattern: str) -> str:
    """Return a pattern as ``.gitattributes`` has it.

    Raises:
        UsageError: Git does not accept the pattern.
    """
    if not pattern or "\0" in pattern or pattern.startswith(_MACRO):
        raise UsageError(f"{pattern!r} is not a valid pattern")
    if pattern.endswith("/"):
        raise UsageError(
            f"git does not apply attributes to directories, as in {pattern!r}",
            hint=f"git theta track {shell_word(pattern + '**')}",
        )
    if pattern.startswith("!"):
        pattern = "\\" + pattern
    if not _NEEDS_QUOTES.search(pattern):
        return pattern
    return quoted(pattern)
