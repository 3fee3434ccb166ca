"""Records of merges as one short line, which a page that shows the commit's message has room for.

The line names the checkpoint, the rules and a digest. What was merged is not in it: the commit's parents have it. The
digest of both tells whether the line belongs to a commit (docs/merge-record.md).
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.record import Record, Step
from git_theta_ext.merging.rules.file import FILE
from git_theta_ext.merging.rules.rules import ALL_SIDES, GROW, Rules
from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_DIGITS = 16
_LONGEST = 1 << 17
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|;|[^\s;"]+')
_PLAIN = re.compile(r"[A-Za-z0-9_.*?/=+:,@\[\]-]+")
_TOOL = "git-theta"
_TAIL = re.compile(rf"(.*) \({_TOOL} ([^\s,()]+)((?:, [^\s,()]+ [0-9]{{1,9}})*), digest ([0-9a-f]{{{_DIGITS}}})\)")
_BY, _RESOLVED, _CHOSEN = "by", "resolved", "chosen"
_KEYWORDS = frozenset({_BY, _RESOLVED})


@dataclass(frozen=True)
class ShortRecord:
    """How one checkpoint was merged, without what its commit's parents have.

    Attributes:
        body: The line up to the parenthesis: the path, the rules and the resolutions.
        path: Path of the merged checkpoint.
        rules: The rules, which are one choice; None for those in the rules file of the first parent.
        steps: Resolutions after the merge, in order.
        search: How the rules were chosen by evaluation; empty if they were not.
        versions: Version of each method that computed something.
        tool: Version of git-theta.
        digest: Digest of what was merged, the body and the rules file.
    """

    body: str
    path: str
    rules: Rules | None
    steps: tuple[Step, ...]
    search: Mapping[str, str]
    versions: Mapping[str, int]
    tool: str
    digest: str

    @classmethod
    def of(cls, record: Record, rules_file: str | None = None) -> ShortRecord:
        """Return the short form of a record.

        Args:
            record: The record.
            rules_file: Object id of the rules file of the first parent, if it has the rules; else None.
        """
        rules = record.rules if rules_file is None else None
        parts = [f"{_quoted(record.path)} {_BY} {FILE if rules is None else _choice_words(rules)}"]
        parts += [
            " ".join([_RESOLVED, *map(_quoted, step.patterns), _BY, _choice_words(step.rules)]) for step in record.steps
        ]
        if record.search:
            parts.append(" ".join([_CHOSEN, *(_quoted(f"{name}={value}") for name, value in record.search.items())]))
        body = "; ".join(parts)
        digest = _digest(record.base, record.sides, body, rules_file)
        return cls(body, record.path, rules, record.steps, record.search, record.versions, record.tool, digest)

    def to_text(self) -> str:
        """Return the line."""
        versions = "".join(f", {name} {version}" for name, version in self.versions.items())
        return f"{self.body} ({_TOOL} {self.tool}{versions}, digest {self.digest})"

    @classmethod
    def from_text(cls, text: str) -> ShortRecord:
        """Read what ``to_text`` returned.

        Raises:
            MergeError: The text is not a valid record.
            PluginError: A method is not installed.
        """
        matched = _TAIL.fullmatch(text) if len(text) <= _LONGEST else None
        if matched is None:
            raise _invalid(text)
        body, tool, versions, digest = matched.groups()
        try:
            first, *others = _segments(body)
            (path,), words = _divided(first)
            search = _search(others.pop()) if others and others[-1][0] == (_CHOSEN, False) else {}
            steps = tuple(_step(segment) for segment in others)
            rules = None if words == [FILE] else _rules(words)
        except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
            raise _invalid(text) from error
        numbers = dict(pair.split() for pair in versions.split(", ")[1:])
        counted = {name: int(number) for name, number in numbers.items()}
        return cls(body, path, rules, steps, search, counted, tool, digest)

    def restored(
        self,
        base: str | None,
        sides: Sequence[str],
        commits: Sequence[str],
        rules: Rules,
        rules_file: str | None = None,
    ) -> Record | None:
        """Return the whole record, or None if it is that of another merge.

        Args:
            base: Object id of what may be the common ancestor that was merged; None if there is none.
            sides: Object ids of what may have been merged, ours first.
            commits: The commit of each side.
            rules: The rules.
            rules_file: Object id of the file that has the rules; None if the line has them.
        """
        if _digest(base, sides, self.body, rules_file) != self.digest:
            return None
        return Record(
            self.path,
            base,
            tuple(sides),
            tuple(commits),
            rules,
            self.versions,
            steps=self.steps,
            tool=self.tool,
            search=self.search,
        )


def is_short(text: str) -> bool:
    """Return whether a record is in the short form; else it is JSON."""
    return not text.lstrip().startswith("{")


def recorded_path(text: str) -> str:
    """Return the checkpoint that a record is about, in either form.

    Raises:
        ValueError, KeyError, TypeError: The text is not a record.
    """
    if not is_short(text):
        return str(read_json(text)["path"])
    token = _TOKEN.match(text)
    if token is None:
        raise ValueError("not a record")
    return str(json.loads(token[0])) if token[0].startswith('"') else token[0]


def _digest(base: str | None, sides: Sequence[str], body: str, rules_file: str | None) -> str:
    # The text is digested, not the rules that are read from it: later versions of a method may have more options.
    data = json.dumps([base, list(sides), body, rules_file], separators=(",", ":"))
    return sha256(data.encode()).hexdigest()[:_DIGITS]


def _invalid(text: str) -> MergeError:
    return MergeError(f"not a valid record of a merge: {text[:80]}")


def _choice_words(rules: Rules) -> str:
    chosen = rules.defaults
    words = [*([GROW] if chosen.grow else []), chosen.method]
    words += [f"{name}={_number(value)}" for name, value in chosen.written.items()]
    words += [f"weights={_number(chosen.written_weights)}"] if chosen.weights else []
    words += [f"sides={ALL_SIDES}"] if chosen.every_side else []
    return " ".join(map(_quoted, words))


def _number(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(_number, value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _quoted(word: str) -> str:
    return word if _PLAIN.fullmatch(word) and word not in _KEYWORDS else json.dumps(word)


def _segments(body: str) -> list[list[tuple[str, bool]]]:
    """Return the words of each part between semicolons, and whether they are quoted."""
    segments: list[list[tuple[str, bool]]] = [[]]
    end = 0
    for token in _TOKEN.finditer(body):
        if body[end : token.start()].strip():
            raise ValueError("characters that belong to no word")
        end, word = token.end(), token[0]
        if word == ";":
            segments.append([])
        else:
            segments[-1].append((json.loads(word), True) if word.startswith('"') else (word, False))
    if body[end:].strip():
        raise ValueError("characters that belong to no word")
    return segments


def _divided(segment: Iterable[tuple[str, bool]]) -> tuple[list[str], list[str]]:
    """Return the words before and after ``by``."""
    words = list(segment)
    at = words.index((_BY, False))
    return [word for word, _ in words[:at]], [word for word, _ in words[at + 1 :]]


def _step(segment: Sequence[tuple[str, bool]]) -> Step:
    if segment[0] != (_RESOLVED, False):
        raise ValueError("expected a resolution")
    patterns, words = _divided(segment[1:])
    return Step(_rules(words), tuple(patterns))


def _search(segment: Sequence[tuple[str, bool]]) -> dict[str, str]:
    pairs = [word.partition("=") for word, _ in segment[1:]]
    if not pairs or not all(equals for _, equals, _ in pairs):
        raise ValueError("expected what is known about a search")
    return {name: value for name, _, value in pairs}


def _rules(words: Sequence[str]) -> Rules:
    grow = words[0] == GROW
    method, *settings = words[1:] if grow else words
    options: dict[str, Any] = {}
    for word in settings:
        name, equals, value = word.partition("=")
        if not equals or name in options:
            raise ValueError(f"expected an option, not {word}")
        options[name] = value
    weights = [float(weight) for weight in options.pop("weights", "").split(",") if weight]
    sides = options.pop("sides", None)
    return Rules.from_dict({"method": method, "with": options, "weights": weights, "sides": sides, "grow": grow})
