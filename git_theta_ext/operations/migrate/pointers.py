"""Pointers of Git LFS in old commits, which need not be canonical."""

from __future__ import annotations

import re

from git_theta_ext.protocol.lfs.pointer import MAX_POINTER, MAX_SIZE, Pointer

_LINES = rb"\r?\n(?:\r?\n)*"
# As git-lfs reads it: with blank lines, space at both ends, lines that end as on Windows, and its former names.
_POINTER = re.compile(
    rb"\s*version (?:https://(?:git-lfs|hawser)\.github\.com/spec/v1|http://git-media\.io/v/2)"
    + _LINES
    + rb"((?:ext-[0-9]-\S+ \S+"
    + _LINES
    + rb")*)oid sha256:([0-9a-f]{64})"
    + _LINES
    + rb"size \+?0*(0|[1-9][0-9]{0,18})\s*"
)


def old_pointer(content: bytes) -> Pointer | None:
    """Return the object that a blob names; None if it is another file, or a pointer with extensions."""
    match = _match(content)
    return Pointer(match[2].decode(), int(match[3])) if match and not match[1] else None


def has_extensions(content: bytes) -> bool:
    """Return whether a blob is a pointer with extensions: programs that changed the content, and can change it back."""
    match = _match(content)
    return match is not None and bool(match[1])


def _match(content: bytes) -> re.Match[bytes] | None:
    match = _POINTER.fullmatch(content) if len(content) <= MAX_POINTER else None
    return match if match and int(match[3]) <= MAX_SIZE else None
