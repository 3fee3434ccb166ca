"""Store old versions as deltas and remove unreachable data.

Pushes and git add do this in the background from time to time, so there is usually no need to run it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.comparison.words import human_bytes, plural
from git_theta_ext.errors import ThetaError, UsageError
from git_theta_ext.operations.maintenance.auto_gc import log_path
from git_theta_ext.operations.maintenance.gc import GcOptions, maintain
from git_theta_ext.store.locks import gc_lock
from git_theta_ext.util.files import replace_content, total_bytes
from git_theta_ext.util.processes import lower_priority

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from git_theta_ext.cli.output import Output
    from git_theta_ext.operations.maintenance.gc import Collected
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.store import Store

GROUP = "maintain"
EXAMPLE = "git theta gc --dry-run"

_DAY = 24 * 3600


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("-n", "--dry-run", action="store_true", help="show what would be done, and do nothing")
    parser.add_argument("--aggressive", action="store_true", help="recode everything again, trying every encoding")
    parser.add_argument(
        "--grace",
        metavar="DAYS",
        type=float,
        help="keep unreachable tensors for DAYS; default: theta.gcGrace (14);"
        " use 0 only if no other process uses the store",
    )
    parser.add_argument(
        "--auto", action="store_true", help="run as in the background: quietly, and only if no other gc is running"
    )
    add_options(parser)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Recode and collect garbage."""
    root = workspace.store.root
    grace = workspace.settings.gc_grace if args.grace is None else args.grace
    if not grace >= 0:
        raise UsageError("--grace must not be negative", hint="git theta gc --grace 14")
    if args.auto:
        lower_priority()
    options = GcOptions(time.time() - grace * _DAY, args.aggressive, args.dry_run)
    with gc_lock(root, wait=False) as acquired:
        if acquired:
            return _collect(output, workspace, options, auto=args.auto)
    if args.auto:
        return 0
    output.warning("waiting for another git theta gc, prune or fsck --repair")
    with gc_lock(root, wait=True):
        return _collect(output, workspace, options, auto=False)


def _collect(output: Output, workspace: Workspace, options: GcOptions, *, auto: bool) -> int:
    try:
        _run(output, workspace, options)
    except ThetaError as error:
        if auto:
            with suppress(OSError):
                replace_content(log_path(workspace.store), f"{error.message}\n".encode())
        raise
    return 0


def _run(output: Output, workspace: Workspace, options: GcOptions) -> None:
    store = workspace.store
    before = _stored(store)
    done = maintain(workspace, options)
    if not options.dry_run:
        log_path(store).unlink(missing_ok=True)
    after = before - done.freed + done.recoded.after if options.dry_run else _stored(store)
    sizes = "store: {}, would become about {}" if options.dry_run else "store: {} before, {} now"
    output.result(
        {
            "dry_run": options.dry_run,
            "recoded": asdict(done.recoded),
            "redundant": [name for name, _ in done.garbage.redundant],
            "dead": [name for name, _ in done.garbage.dead],
            "kept_for_grace_bytes": done.garbage.young,
            "removed_bytes": done.freed,
            "repacked": done.repacked,
            "shrunk": done.shrunk,
            "store_bytes": [before, after],
        },
        [
            *_lines(done, "would " if options.dry_run else ""),
            sizes.format(human_bytes(before), human_bytes(after)),
        ],
    )


def _stored(store: Store) -> int:
    return total_bytes(path for root, path in store.pack_files() if root == store.root)


def _lines(done: Collected, would: str) -> Iterator[str]:
    recoded = done.recoded
    count = sum(recoded.tensors.values())
    if count:
        ways = ", ".join(f"{number} {name}" for name, number in sorted(recoded.tensors.items()))
        sizes = f"{human_bytes(recoded.before)} -> {human_bytes(recoded.after)}"
        yield f"{would}recode {plural(count, 'tensor')} ({ways}): {sizes}"
    garbage = done.garbage
    if garbage.redundant:
        yield f"{would}remove {plural(len(garbage.redundant), 'pack')} whose tensors are also stored in fewer bytes"
    if garbage.dead:
        yield f"{would}remove {plural(len(garbage.dead), 'pack')} of unreachable tensors"
    if garbage.young:
        yield f"kept {human_bytes(garbage.young)} of unreachable tensors that are younger than the grace period"
    if done.shrunk:
        yield f"{would}store {plural(done.shrunk, 'bundle')} of small tensors again, without those that are not needed"
    if done.repacked:
        yield f"combined the contents of {plural(done.repacked, 'pack')}"
    if done.freed:
        yield f"{would}remove {human_bytes(done.freed)} in total"
