"""The files of an index: index entries of several packs in one file, and the paths of both."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_HEADS = 1 << 28
"""Maximum size of a file of index entries in bytes."""

_MAGIC = b"git-theta heads 1\n"
_NAME = 32
_LENGTH = 8
_PACK = re.compile(r"packs/([0-9a-f]{2})/([0-9a-f]{62})")
_HEADS = re.compile(r"heads/[0-9a-f]{64}")


def pack_path(name: str) -> str:
    """Return the path of the file that stands for a pack."""
    return f"packs/{name[:2]}/{name[2:]}"


def pack_of_path(path: str) -> str | None:
    """Return the name of the pack that the file at a path stands for; None for other paths."""
    match = _PACK.fullmatch(path)
    return match[1] + match[2] if match else None


def is_heads_path(path: str) -> bool:
    """Return whether a path is that of a file of index entries."""
    return _HEADS.fullmatch(path) is not None


def join_heads(entries: Mapping[str, bytes]) -> bytes:
    """Return a file with index entries, by the names of their packs."""
    parts = [_MAGIC]
    for name, data in sorted(entries.items()):
        parts += [bytes.fromhex(name), len(data).to_bytes(_LENGTH, "big"), data]
    return b"".join(parts)


def split_heads(data: bytes) -> dict[str, bytes]:
    """Return the index entries in a file, by the names of their packs.

    Raises:
        CorruptError: It is damaged.
    """
    if not data.startswith(_MAGIC):
        raise CorruptError("a file of index entries does not start as one")
    entries: dict[str, bytes] = {}
    at = len(_MAGIC)
    while at < len(data):
        start = at + _NAME + _LENGTH
        end = start + int.from_bytes(data[at + _NAME : start], "big")
        if end > len(data):
            raise CorruptError("a file of index entries is truncated")
        entries[data[at : at + _NAME].hex()] = data[start:end]
        at = end
    return entries
