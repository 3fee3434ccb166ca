"""Where a store has what it knows of a remote. All of it may be deleted at any time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blake3 import blake3

if TYPE_CHECKING:
    from pathlib import Path


def heads_directory(root: Path, url: str) -> Path:
    """Return the directory in a store that caches the heads of a remote's packs."""
    return root / "remotes" / blake3(url.encode(errors="surrogateescape")).hexdigest(length=8)


def record_path(root: Path, url: str, kind: str) -> Path:
    """Return the path of a record of a remote."""
    directory = heads_directory(root, url)
    return directory.with_name(f"{directory.name}.{kind}")
