"""The files that git-theta 0.2.0 committed in place of checkpoints: JSON with an object of Git LFS a parameter."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from git_theta_ext.errors import FormatError
from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.protocol.lfs.pointer import MAX_SIZE, Pointer
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_theta_ext.model.content import Content

MAX_METADATA = 1 << 28
"""Bytes, enough for a hundred thousand parameters, each with a signature of 16 numbers."""

UpdateType = Literal["dense", "sparse", "low-rank", "ia3"]

_MARK = b'"lfs_metadata"'
_OID = re.compile("[0-9a-f]{64}")
_COMMIT = re.compile("[0-9a-f]{40}")
_SIZE = re.compile("0|[1-9][0-9]{0,18}")
_SHAPE = re.compile(r"\((?:\d{1,18}(?:, \d{1,18})*,?)?\)")


@dataclass(frozen=True)
class OriginalParameter:
    """A parameter in such a file.

    Attributes:
        pointer: The object with its value, or with the change of its value.
        shape: Shape of the value.
        update: How the value follows from the object.
        last_commit: The commit with the value before, which all updates but ``dense`` change; empty if there is none.
    """

    pointer: Pointer
    shape: tuple[int, ...]
    update: UpdateType
    last_commit: str


def parse_original(content: Content) -> dict[tuple[str, ...], OriginalParameter] | None:
    """Return the parameters of a file of git-theta 0.2.0; None for another file.

    Args:
        content: The file.

    Returns:
        The names of parameters, split where the checkpoint was nested.

    Raises:
        FormatError: The file is damaged.
    """
    if not 0 < content.nbytes <= MAX_METADATA or bytes(content[:1]) != b"{":
        return None
    data = bytes(content[:])
    if _MARK not in data:
        return None
    try:
        parsed = read_json(data.decode())
        return dict(_leaves(parsed, ()))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(f"a damaged file of git-theta 0.2.0: {error}") from error


def _leaves(value: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], OriginalParameter]]:
    for name, inner in value.items():
        if "lfs_metadata" in inner:
            yield (*names, name), _parameter(inner)
        else:
            yield from _leaves(inner, (*names, name))


def _parameter(leaf: Mapping[str, Any]) -> OriginalParameter:
    lfs, tensor, theta = leaf["lfs_metadata"], leaf["tensor_metadata"], leaf["theta_metadata"]
    oid, size, shape = _matching(_OID, lfs["oid"]), int(_matching(_SIZE, lfs["size"])), tensor["shape"]
    update, commit = theta["update_type"], theta["last_commit"] or ""
    if size > MAX_SIZE:
        raise ValueError(f"an object of {size} bytes")
    if update not in get_args(UpdateType):
        raise ValueError(f"unknown kind of update {update!r}")
    if commit:
        _matching(_COMMIT, commit)
    numbers = tuple(int(number) for number in re.findall(r"\d+", _matching(_SHAPE, shape)))
    return OriginalParameter(Pointer(oid, size), numbers, cast("UpdateType", update), commit)


def _matching(pattern: re.Pattern[str], text: object) -> str:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise ValueError(f"{str(text)[:80]!r} does not match {pattern.pattern}")
    return text
