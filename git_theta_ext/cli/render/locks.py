"""Show locks of files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Collection, Iterator, Sequence

    from git_theta_ext.interfaces import FileLock


def add_remote(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the remote with the locks."""
    parser.add_argument(
        "-r", "--remote", metavar="REMOTE", help="git remote or its address; default: the one git push uses"
    )


def lock_data(lock: FileLock) -> dict[str, str]:
    """Describe a lock for JSON."""
    return {"id": lock.id, "path": lock.path, "owner": lock.owner, "locked_at": lock.locked_at}


def lines_of(
    locks: Sequence[FileLock], ours: Collection[FileLock] | None, shown: Callable[[str], str]
) -> Iterator[str]:
    """Yield a line for each lock.

    Args:
        locks: The locks.
        ours: Those of the user, if that is known.
        shown: Returns a path as the user sees it.
    """
    if not locks:
        yield "no file is locked"
    rows = [(shown(lock.path), lock.owner, lock.locked_at, lock.id) for lock in locks]
    widths = [max((len(text) for text in column), default=0) for column in zip(*rows, strict=True)]
    for lock, row in zip(locks, rows, strict=True):
        mark = "" if ours is None else "O " if lock in ours else "  "
        yield mark + "  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
