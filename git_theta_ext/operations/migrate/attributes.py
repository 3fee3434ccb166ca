"""Rewrite the ``.gitattributes`` files of history, so that each version of a model has its filter."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from git_theta_ext.git.attribute_lines import quote_pattern, rules
from git_theta_ext.git.attributes import FORMAT_ATTRIBUTE
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from git_theta_ext.git.attribute_lines import Rule

NAME = ".gitattributes"
MAX_ATTRIBUTES = 1 << 24
"""Bytes; git ignores larger files, from 100 MB on."""

_THETA = ("filter=theta", "diff=theta", "merge=theta", "-text")
_LFS = ("filter=lfs", "diff=lfs", "merge=lfs", "-text")
_NONE = ("!filter", "!diff", "!merge", "!text")
_NAMES = frozenset(state.lstrip("!") for state in _NONE)
_LITERAL = re.compile(r"[^/*?\[\]\\]*$")
_MACRO = re.compile(r"^[ \t]*\[attr\]([-\w.]+)[ \t]+(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Tracked:
    """The paths that git theta is given.

    Attributes:
        include: Patterns, relative to the top.
        exclude: Patterns of paths that are left out all the same.
    """

    include: Sequence[str]
    exclude: Sequence[str] = ()


def to_theta(text: str, tracked: Tracked, folder: str = "", macros: Collection[str] = ()) -> str:
    """Return a ``.gitattributes`` in which the tracked paths have our filter, and other paths keep theirs.

    Our lines come last, as the last line that matches a path counts. A file in a folder below the top overrides that
    of the top, so it gets the same lines if it sets filters itself. Patterns that have our filter already are left, so
    that commits without anything to convert stay the same.

    Args:
        text: The file's text.
        tracked: The paths.
        folder: The folder of the file, relative to the top; empty for the top itself.
        macros: Names of the macros that set a filter.
    """
    if folder and not any(rule and _sets_filter(rule, macros) for _, rule in rules(text)):
        return text
    exclude = [below for pattern in tracked.exclude for below in relative(pattern, folder)]
    include = [below for pattern in tracked.include for below in relative(pattern, folder)]
    include = [pattern for pattern in include if exclude or not _is_ours(text, pattern, macros)]
    if not include:
        return text
    lines: list[str] = []
    own: dict[str, tuple[str, ...]] = {}
    was_lfs = False
    for line, rule in rules(text):
        if rule is not None and rule.pattern in exclude:
            own[rule.pattern] = rule.states
        elif rule is None or rule.pattern not in include:
            lines.append(line)
        else:
            was_lfs = was_lfs or _LFS[0] in rule.states or any(state in macros for state in rule.states)
            rest = [state for state in rule.states if state not in {*_LFS, *_THETA} and not _is_filter(state)]
            if rest:
                lines.append(_with_states(line, rule, rest))
    ending = "\r\n" if text.endswith("\r\n") else "\n"
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += ending
    lines += [" ".join([quote_pattern(pattern), *_THETA]) + ending for pattern in include]
    for pattern in exclude:
        states = own.get(pattern, ())
        if not any(_is_filter(state) for state in states):
            states = (*states, *(_LFS if was_lfs else _NONE))
        lines.append(" ".join([quote_pattern(pattern), *states]) + ending)
    return "".join(lines)


def from_theta(text: str, *, lfs: bool) -> str:
    """Return a ``.gitattributes`` in which no path has our filter.

    Args:
        text: The file's text.
        lfs: Whether Git LFS takes our place.
    """
    lines: list[str] = []
    for line, rule in rules(text):
        if rule is None or _THETA[0] not in rule.states:
            lines.append(line)
            continue
        rest = [state for state in rule.states if not state.startswith(f"{FORMAT_ATTRIBUTE}=")]
        if lfs:
            rest = [_LFS[_THETA.index(state)] if state in _THETA else state for state in rest]
        else:
            rest = [state for state in rest if state not in _THETA]
        if rest:
            lines.append(_with_states(line, rule, rest))
    return "".join(lines)


def macros_of(text: str) -> set[str]:
    """Return the names of the macros that set a filter."""
    return {name for name, states in _MACRO.findall(text) if any(_is_filter(state) for state in states.split())}


def relative(pattern: str, folder: str) -> list[str]:
    """Return the patterns that match below a folder what a pattern matches seen from the top."""
    if not folder or "/" not in pattern.removesuffix("/"):
        return [pattern]
    parts = pattern.removeprefix("/").split("/")
    found = dict.fromkeys("/".join(rest) for rest in _below(parts, folder.split("/")))
    return [rest if rest.startswith("**/") else f"/{rest}" for rest in found]


def _below(parts: Sequence[str], folders: Sequence[str]) -> Iterator[Sequence[str]]:
    if not parts:
        return
    if not folders:
        yield parts
    elif parts[0] == "**":
        yield from _below(parts[1:], folders)
        yield from _below(parts, folders[1:])
    elif fnmatchcase(folders[0], parts[0]):
        yield from _below(parts[1:], folders[1:])


def _is_ours(text: str, pattern: str, macros: Collection[str]) -> bool:
    """Return whether all paths of a pattern have our attributes, by a line for it or for all files of its ending."""
    ending = _ending(pattern)
    for _, rule in reversed(list(rules(text))):
        if rule is None or not (ending.endswith(other := _ending(rule.pattern)) or other.endswith(ending)):
            continue
        if set(_THETA).issubset(rule.states):
            if rule.pattern in {pattern, f"*{other}"} and ending.endswith(other):
                return True
        elif any(state in macros or state.lstrip("-!").partition("=")[0] in _NAMES for state in rule.states):
            return False
    return False


def _ending(pattern: str) -> str:
    """Return the characters that each matching path ends with."""
    return str(_LITERAL.findall(pattern)[0])


def _sets_filter(rule: Rule, macros: Collection[str]) -> bool:
    return any(_is_filter(state) or state in macros for state in rule.states)


def _is_filter(state: str) -> bool:
    return state.lstrip("-!").partition("=")[0] == "filter"


def _with_states(line: str, rule: Rule, states: Sequence[str]) -> str:
    ending = line[len(line.rstrip("\r\n")) :]
    return " ".join([line[: rule.states_at].rstrip(" \t"), *states]) + ending
