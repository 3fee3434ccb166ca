"""The files of an index: index entries of several packs in one file, and the paths of both."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_HEADS = 1 << 28
"""Maximum size of a file of index entries in bytes."""

_FIRST = b"git-theta heads 1\n"
_LINE = re.compile(rb"([0-9a-f]{64}) ([0-9A-Za-z+/]*={0,2})")
_PACK = re.compile(r"packs/([0-9a-f]{2})/([0-9a-f]{62})")
_HEADS = re.compile(r"heads/[0-9a-f]{64}")


def pack_path(name: str) -> str:
    """Return the path of the file that stands for a pack."""
    return f"packs/{name[:2]}/{name[2:]}"


def pack_of_path(path: str) -> str | None:
    """Return the name of the pack that the file at a path stands for; None for other paths."""
    match = _PACK.fullmatch(path)
    return match[1] + match[2] if match else None


def object_path(oid: str) -> str:
    """Return the path of the pointer of an LFS object that has a part of a pack."""
    return f"objects/{oid[:2]}/{oid[2:]}"


def mark_path(name: str) -> str:
    """Return the path of the file that says that a pack is damaged."""
    return f"damaged/{name[:2]}/{name[2:]}"


def pack_of_mark_path(path: str) -> str | None:
    """Return the name of the pack that the file at a path says to be damaged; None for other paths."""
    folder, _, rest = path.partition("/")
    return pack_of_path(f"packs/{rest}") if folder == "damaged" else None


def is_heads_path(path: str) -> bool:
    """Return whether a path is that of a file of index entries."""
    return _HEADS.fullmatch(path) is not None


def join_heads(entries: Mapping[str, bytes]) -> bytes:
    """Return a file with index entries, by the names of their packs: a line for each.

    It is text, because some hosts refuse binary files that are not in LFS. Git compresses it to the size of the
    entries.
    """
    lines = (name.encode() + b" " + b64encode(data) + b"\n" for name, data in sorted(entries.items()))
    return b"".join([_FIRST, *lines])


def split_heads(data: bytes) -> dict[str, bytes]:
    """Return the index entries in a file, by the names of their packs.

    Raises:
        CorruptError: It is damaged.
    """
    if not data.startswith(_FIRST) or not data.endswith(b"\n"):
        raise CorruptError("a file of index entries is damaged or truncated")
    entries: dict[str, bytes] = {}
    for line in data[len(_FIRST) : -1].split(b"\n") if len(data) > len(_FIRST) else ():
        if (match := _LINE.fullmatch(line)) is None or len(match[2]) % 4:
            raise CorruptError("a file of index entries is damaged")
        entries[match[1].decode()] = b64decode(match[2])
    return entries
