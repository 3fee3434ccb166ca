"""The attributes that make a file a checkpoint: git's attributes of a path, and the lines of ``.gitattributes``.

Source: ``gitattributes(5)``. Lines for other patterns stay as they are, byte for byte.
"""

from __future__ import annotations

import os
import re
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.errors import RepositoryError, UsageError
from git_theta_ext.records import dataclass
from git_theta_ext.util.files import replace_content, reporting_os_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from git_theta_ext.git.process import RunGit

DRIVER = "theta"
_FILTER = "filter"
FORMAT_ATTRIBUTE = "theta-format"

_OURS = {"filter": "filter=theta", "diff": "diff=theta", "merge": "merge=theta", "text": "-text"}
_LFS = frozenset({"filter=lfs", "diff=lfs", "merge=lfs"})
# Another filter or a line-ending conversion would change the checkpoint's bytes. The rest is the user's choice.
_EXCLUSIVE = ("filter", "text")
UNSET = frozenset({"unspecified", "unset", "set", ""})
"""What git calls the value of an attribute without one."""
_BLANK = " \t\r\n"
_MACRO = "[attr]"
_MAX_LINE = 2047
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_STATE = re.compile(r"[^ \t\r\n]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\(?:[abfnrtv"\\]|[0-3][0-7]{2}))*)"')
_ESCAPE = re.compile(r"\\([0-3][0-7]{2}|.)", re.DOTALL)
_NEEDS_QUOTES = re.compile(r'^[#"]|[\x00-\x20\x7f]')
_TO_ESCAPE = re.compile(r'[\x00-\x1f\x7f"\\]')
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", '"': '"', "\\": "\\"}
_NAMES = {character: letter for letter, character in _LETTERS.items()}


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


def theta_paths(run: RunGit, paths: Iterable[str], *, cached: bool = False) -> dict[str, str | None]:
    """Ask git which paths are checkpoints.

    Args:
        run: Runs git, as ``Repository.run`` does.
        paths: Paths relative to the directory in which ``run`` runs git; they need not exist.
        cached: Read ``.gitattributes`` from the index only.

    Returns:
        The paths whose filter is ours, in the given order, with their ``theta-format`` attribute or None.

    Raises:
        RepositoryError: Git's answer is incomplete.
    """
    answers = _attributes(run, paths, (_FILTER, FORMAT_ATTRIBUTE), cached=cached)
    return {path: None if name in UNSET else name for path, (driver, name) in answers.items() if driver == DRIVER}


def paths_without_filter(run: RunGit, paths: Iterable[str], *, cached: bool = False) -> list[str]:
    """Return the paths that no line assigns to a filter, and none says ``-filter`` of.

    Args:
        run: Runs git, as for ``theta_paths``.
        paths: Paths relative to the directory in which ``run`` runs git.
        cached: Read ``.gitattributes`` from the index only.

    Raises:
        RepositoryError: Git's answer is incomplete.
    """
    answers = _attributes(run, paths, (_FILTER,), cached=cached)
    return [path for path, (driver,) in answers.items() if driver == "unspecified"]


def _attributes(
    run: RunGit, paths: Iterable[str], names: tuple[str, ...], *, cached: bool
) -> dict[str, tuple[str, ...]]:
    requested = list(paths)
    if not requested:
        return {}
    request = b"".join(os.fsencode(path) + b"\0" for path in requested)
    source = ("--cached",) if cached else ()
    answer = run("check-attr", *source, "-z", "--stdin", *names, input=request)
    fields = [os.fsdecode(value) for value in answer.split(b"\0")]
    width = 3 * len(names)  # path, attribute and value, for each attribute
    if len(fields) != width * len(requested) + 1:
        raise RepositoryError(f"unexpected output of git check-attr for {requested[0]!r}")
    return {path: tuple(fields[n * width + 2 : (n + 1) * width : 3]) for n, path in enumerate(requested)}


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
                hint=f"remove {state!r} from that line, then git theta track {quote(pattern)}",
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
    quoted = _QUOTED.match(line, start)
    word = quoted or _STATE.match(line, start)
    assert word is not None
    pattern = unquote(quoted[1]) if quoted else word[0]
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
            hint=f"git theta track {quote(pattern + '**')}",
        )
    if pattern.startswith("!"):
        pattern = "\\" + pattern
    if not _NEEDS_QUOTES.search(pattern):
        return pattern
    return '"' + _TO_ESCAPE.sub(lambda match: "\\" + (_NAMES.get(match[0]) or f"{ord(match[0]):03o}"), pattern) + '"'


def unquote(body: str) -> str:
    """Return the text between git's quotes, in which special characters are escaped as in C."""

    def byte(match: re.Match[str]) -> bytes:
        return bytes([int(match[1], 8)]) if match[1][0] in "0123" else _LETTERS[match[1]].encode()

    raw = body.encode("utf-8", "surrogateescape").decode("latin-1")
    plain = _ESCAPE.sub(lambda match: byte(match).decode("latin-1"), raw)
    return plain.encode("latin-1").decode("utf-8", "surrogateescape")
