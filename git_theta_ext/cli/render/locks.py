"""Show locks of files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Iterator, Sequence

    from git_theta_ext.interfaces import FileLock


def add_remote(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the remote with the locks."""
    parser.add_argument(
        "-r", "--remote", metavar="REMOTE", help="git remote or its address; default: the one git push uses"
    )


def lock_data(lock: FileLock) -> dict[str, str]:
    """Describe a lock for JSON."""
    return {"id": lock.id, "path": lock.path, "owner": lock.owner, "locked_at": lock.locked_at}


def lines_of(locks: Sequence[FileLock], ours: Collection[FileLock] | None) -> Iterator[str]:
    """Yield a line for each lock; ``ours`` are the user's, if that is known."""
    if not locks:
        yield "no file is locked"
    widths = [max((len(text) for text in column), default=0) for column in zip(*map(_columns, locks), strict=True)]
    for lock in locks:
        mark = "" if ours is None else "O " if lock in ours else "  "
        yield mark + "  ".join(f"{text:{width}}" for text, width in zip(_columns(lock), widths, strict=True)).rstrip()


def _columns(lock: FileLock) -> tuple[str, ...]:
    return lock.path, lock.owner, lock.locked_at, lock.id
