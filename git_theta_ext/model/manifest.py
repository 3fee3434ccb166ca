"""Manifest version 1: the text that git tracks instead of a checkpoint.

A manifest has one line for each parameter, sorted by name, so that a textual merge of two sides that changed different
parameters is a manifest too. The text is canonical: equal manifests have equal bytes, and the parser accepts nothing
else. Parsing takes at most 16 times the size of the text in memory, and linear time.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

from blake3 import blake3

from git_theta_ext.errors import FormatError, ManifestError
from git_theta_ext.model.conflict_reasons import Reason
from git_theta_ext.model.conflicts import MOST_SIDES, Conflict, LayoutConflict
from git_theta_ext.model.fields import MAX_SKELETON
from git_theta_ext.model.parameters import Parameter, Parameters, parse_spec, read_plain
from git_theta_ext.model.tensor import (
    Digest,
    TensorSpec,
    is_digest,
    skeleton_spec,
    tensor_digest,
)
from git_theta_ext.records import dataclass, field
from git_theta_ext.util.text import quoted, unquoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.model.content import Content

__all__ = ["MAGIC", "MAX_MANIFEST", "Manifest", "Parameter", "Skeleton", "is_manifest", "values_digest"]

MAGIC = b"git-theta manifest 1\n"
MAX_MANIFEST = 1 << 28
"""The limit of a manifest in bytes, enough for a million parameters."""

_LEAST_LINE = 10  # bytes, on average
_LEAST_COLUMNS = 4  # reason, base, ours, theirs
_FORMAT = re.compile(r"[a-z][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The digest and the size in bytes of a checkpoint's skeleton."""

    digest: Digest
    nbytes: int

    @classmethod
    def of(cls, data: bytes) -> Skeleton:
        """Return the digest and the size of a skeleton, given its bytes."""
        return cls(tensor_digest(skeleton_spec(len(data)), data), len(data))

    @property
    def spec(self) -> TensorSpec:
        """The spec under which a store holds the bytes of the skeleton."""
        return skeleton_spec(self.nbytes)


@dataclass(frozen=True)
class Manifest:
    """A checkpoint's format, skeleton and parameters, and its merge conflicts."""

    format: str
    skeleton: Skeleton
    parameters: Mapping[str, Parameter]
    layout_conflict: LayoutConflict | None = None
    conflicts: tuple[Conflict, ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", Parameters.of(self.parameters))
        object.__setattr__(self, "conflicts", tuple(sorted(self.conflicts, key=lambda conflict: conflict.name)))

    @property
    def columns(self) -> Parameters:
        """The parameters, as columns."""
        return Parameters.of(self.parameters)

    @property
    def conflicted(self) -> bool:
        """Whether there are merge conflicts."""
        return bool(self.conflicts or self.layout_conflict)

    @property
    def named(self) -> list[Digest]:
        """The digest of the skeleton and then of every tensor."""
        return [self.skeleton.digest, *self.columns.digests]

    def digests(self) -> Iterator[tuple[Digest, int]]:
        """Return the digest and the size in bytes of the skeleton and then of every tensor."""
        sizes = [spec.nbytes for spec in self.columns.specs]
        return chain([(self.skeleton.digest, self.skeleton.nbytes)], zip(self.columns.digests, sizes, strict=True))

    def to_bytes(self) -> bytes:
        """Return the canonical text in UTF-8."""
        lines = [f"format {self.format}", f"skeleton {_skeleton(self.skeleton)}"]
        lines += self.columns.lines()
        if self.conflicted:
            lines.append("conflict")
        if self.layout_conflict is not None:
            layouts = (self.layout_conflict.base, *self.layout_conflict.sides)
            lines.append("\t".join(["layout", quoted(self.layout_conflict.reason.written), *map(_skeleton, layouts)]))
        for conflict in self.conflicts:
            candidates = (conflict.base, *conflict.sides)
            columns = [quoted(conflict.name), quoted(conflict.reason.written), *map(_candidate, candidates)]
            lines.append("\t".join(columns))
        return MAGIC + "".join(line + "\n" for line in lines).encode()

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read a manifest.

        Raises:
            ManifestError: The text is not a canonical manifest. The message names the line.
        """
        return _Parser(data).manifest()


def values_digest(parameters: Mapping[str, Parameter]) -> Digest:
    """Return a digest of all parameters that does not depend on the file: the BLAKE3-256 of their manifest lines."""
    return Digest(blake3("".join(f"{line}\n" for line in Parameters.of(parameters).lines()).encode()).hexdigest())


def is_manifest(data: bytes | Content) -> bool:
    """Return whether data begins as a manifest does."""
    return bytes(data[: len(MAGIC)]) == MAGIC


def _candidate(parameter: Parameter | None) -> str:
    return "-" if parameter is None else f"{parameter.spec} {parameter.digest}"


def _skeleton(skeleton: Skeleton | None) -> str:
    return "-" if skeleton is None else f"{skeleton.digest} {skeleton.nbytes}"


class _Parser:
    """A parser that reads line by line, so that every error can name the line."""

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_MANIFEST:
            raise ManifestError(f"the manifest of {len(data)} bytes exceeds the limit of {MAX_MANIFEST}")
        if not is_manifest(data):
            raise ManifestError("line 1: not a git-theta manifest of version 1")
        if not data.endswith(b"\n"):
            raise ManifestError("the last line of the manifest is truncated")
        if _LEAST_LINE * data.count(b"\n") > len(data):
            raise ManifestError("the lines are too short for a manifest")
        try:
            self._lines = data.decode().split("\n")[1:-1]
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ManifestError(f"line {line}: not UTF-8") from error
        self._at = 0

    def manifest(self) -> Manifest:
        kind = self._keyword("format")
        if not _FORMAT.fullmatch(kind):
            raise self._bad("expected the name of a format")
        skeleton = self._read_skeleton(self._keyword("skeleton"))
        if (plain := read_plain(self._lines[self._at :])) is not None:
            return Manifest(kind, skeleton, plain)
        parameters: dict[str, Parameter] = {}
        last: str | None = None
        while self._at < len(self._lines) and self._lines[self._at] != "conflict":
            name, *columns = self._next().split("\t", 4)
            last = self._ordered(self._text(name), last)
            parameters[last] = self._parameter(columns)
        layout_conflict, conflicts = self._conflict_section()
        return Manifest(kind, skeleton, parameters, layout_conflict, conflicts)

    def _conflict_section(self) -> tuple[LayoutConflict | None, tuple[Conflict, ...]]:
        if self._at == len(self._lines):
            return None, ()
        self._at += 1
        if self._at == len(self._lines):
            raise self._bad("the conflict section is empty")
        layout: LayoutConflict | None = None
        conflicts: list[Conflict] = []
        last: str | None = None
        while self._at < len(self._lines):
            name, *columns = self._next().split("\t", _LEAST_COLUMNS + MOST_SIDES + 1)
            if not _LEAST_COLUMNS <= len(columns) <= _LEAST_COLUMNS + MOST_SIDES:
                raise self._bad("expected a name, a reason, the base and two or more sides")
            if name == "layout" and layout is None and not conflicts:
                base = None if columns[1] == "-" else self._read_skeleton(columns[1])
                sides = [self._read_skeleton(column) for column in columns[2:]]
                layout = LayoutConflict(Reason(self._text(columns[0])), base, tuple(sides))
                continue
            last = self._ordered(self._text(name), last)
            before, *candidates = (None if c == "-" else self._parameter(c.split(" ")) for c in columns[1:])
            conflicts.append(Conflict(last, Reason(self._text(columns[0])), before, tuple(candidates)))
        return layout, tuple(conflicts)

    def _next(self) -> str:
        if self._at == len(self._lines):
            self._at += 1
            raise self._bad("the manifest is truncated")
        self._at += 1
        return self._lines[self._at - 1]

    def _bad(self, what: str) -> ManifestError:
        # Line 1 is the magic, and _at is the number of lines after it that have been read.
        return ManifestError(f"line {self._at + 1}: {what}")

    def _keyword(self, word: str) -> str:
        line = self._next()
        if not line.startswith(word + " "):
            raise self._bad(f"expected '{word} …'")
        return line[len(word) + 1 :]

    def _text(self, written: str) -> str:
        text = unquoted(written)
        if text is None:
            raise self._bad("expected a name in canonical JSON quotes")
        return text

    def _ordered(self, name: str, last: str | None) -> str:
        if last is not None and name <= last:
            raise self._bad(f"parameter {name!r} is out of order or a duplicate")
        return name

    def _parameter(self, columns: list[str]) -> Parameter:
        if len(columns) != 3:  # noqa: PLR2004 - dtype, shape, digest
            raise self._bad("expected a name, an element type, a shape and a digest")
        kind, shape, digest = columns
        if not is_digest(digest):
            raise self._bad("expected a digest")
        try:
            return Parameter(parse_spec(kind, shape), Digest(digest))
        except FormatError as error:
            raise self._bad(error.message) from error

    def _read_skeleton(self, text: str) -> Skeleton:
        digest, _, size = text.partition(" ")
        if not is_digest(digest) or not re.fullmatch(r"[1-9][0-9]{0,9}", size) or int(size) > MAX_SKELETON:
            raise self._bad("expected digest and size of a skeleton")
        return Skeleton(Digest(digest), int(size))
