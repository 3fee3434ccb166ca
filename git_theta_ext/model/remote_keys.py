"""The keys of objects on remotes, which are checked in both directions."""

from __future__ import annotations

import re

from git_theta_ext.errors import UsageError

MAX_KEY = 512
_PART = re.compile(r"[A-Za-z0-9._-]{1,128}")
_PACK = re.compile(r"packs/([0-9a-f]{2})/(\1[0-9a-f]{62})")
_INDEX = re.compile(r"index/([0-9a-f]{64})")


def is_key(key: str) -> bool:
    """Return whether a text is a key: a relative path of plain names with at most 512 characters."""
    return len(key) <= MAX_KEY and all(_PART.fullmatch(part) and part not in {".", ".."} for part in key.split("/"))


def check_key(key: str) -> str:
    """Return a key after checking it.

    Raises:
        UsageError: The key is too long or not a relative path of plain names (letters, digits, dot, underscore,
            hyphen).
    """
    if not is_key(key):
        raise UsageError(f"{key[:80]!r} is not a key of a remote: it must be a relative path of plain names")
    return key


def check_prefix(prefix: str) -> str:
    """Return a prefix of keys after checking it: it is empty, or a key that may end in a slash.

    Raises:
        UsageError: No key can start with the prefix.
    """
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix


def pack_key(name: str) -> str:
    """Return the key of the pack whose bytes have the SHA-256 ``name``."""
    return check_key(f"packs/{name[:2]}/{name}")


def index_key(name: str) -> str:
    """Return the key of the index entry of a pack."""
    return check_key(f"index/{name}")


def pack_of_key(key: str) -> str | None:
    """Return the name of the pack under a key, or None for other keys."""
    match = _PACK.fullmatch(key)
    return match[2] if match else None


def pack_of_index_key(key: str) -> str | None:
    """Return the name of the pack whose index entry is under a key, or None for other keys."""
    match = _INDEX.fullmatch(key)
    return match[1] if match else None
