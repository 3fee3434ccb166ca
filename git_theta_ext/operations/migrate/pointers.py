"""Pointers of Git LFS in old commits, which need not be canonical."""

from __future__ import annotations

import re

from git_theta_ext.protocol.lfs.pointer import MAX_POINTER, MAX_SIZE, Pointer

_POINTER = re.compile(
    rb"version https://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/v1\n"
    rb"oid sha256:([0-9a-f]{64})\nsize (0|[1-9][0-9]{0,18})\n?"
)


def old_pointer(content: bytes) -> Pointer | None:
    """Return the object that a blob names; None if it is another file, or a pointer with extensions.

    Extensions are programs that have changed the content; only they can change it back.
    """
    match = _POINTER.fullmatch(content) if len(content) <= MAX_POINTER else None
    if match is None or int(match[2]) > MAX_SIZE:
        return None
    return Pointer(match[1].decode(), int(match[2]))
