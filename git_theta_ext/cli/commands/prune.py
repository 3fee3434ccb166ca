"""Remove local parameters that a remote holds.

Keeps what a work tree or an unpushed commit needs. Asks the remote before anything is removed. A later checkout fetches
the parameters again.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.comparison.words import human_bytes, plural
from git_theta_ext.operations.maintenance.prune import (
    copy_parts,
    local_packs,
    needed_here,
    plan_prune,
    prune_place,
    reasons,
    reduced,
    tensors_of,
)
from git_theta_ext.store.locks import gc_lock
from git_theta_ext.transfer.remote_index import read_remote_index
from git_theta_ext.transfer.verify import verified

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from git_theta_ext.cli.output import Output
    from git_theta_ext.operations.maintenance.prune import Prune
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.packs.format import PackHeader
    from git_theta_ext.transfer.remote_index import OpenedRemote

GROUP = "maintain"
EXAMPLE = "git theta prune --dry-run"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("-n", "--dry-run", action="store_true", help="list what would be removed, and remove nothing")
    parser.add_argument(
        "--remote", metavar="REMOTE", help="remote that holds the parameters; default: the one git push uses"
    )
    parser.add_argument(
        "--keep-recent", metavar="DAYS", type=_days, default=0, help="keep versions committed in the last DAYS days"
    )
    parser.add_argument("--verify", action="store_true", help="download the remote's copies and check every byte")
    add_options(parser)


def _days(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days")
    return int(text)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Remove local parameters."""
    repo, store = workspace.repo, workspace.store
    place = prune_place(workspace, args.remote)
    start = time.time()
    # Meanwhile no other process can store a delta of a tensor that is being removed.
    with gc_lock(store.root, wait=True):
        named = needed_here(repo, place.name, args.keep_recent)
        others = tensors_of(local_packs(store)) - named
        with output.progress(f"checking {place.name}", 0) as advance:
            there = verified(store, place, others, download=args.verify, advance=advance) if others else set()
        why = reasons(store, named, there, start, dry_run=args.dry_run)
        packs, again = why.packs, why.shrinking
        parts = reduced(packs, why.needed, why.safe)
        plan = plan_prune({**packs, **parts}, why.needed, why.safe)
        parts = {name: part for name, part in parts.items() if name in plan.needed | plan.unverified}
        gone = list(plan.drop)
        if not args.dry_run:
            copied = copy_parts(store, parts)
            gone = store.drop(plan.drop, older_than=start)
            parts = {name: parts[name] for name in store.drop(copied, older_than=start)}
    data = {
        "remote": place.name,
        "would_drop" if args.dry_run else "dropped": gone,
        "would_copy" if args.dry_run else "copied": sorted(parts),
        "shrunk": len(again.replaced),
        "bytes": _nbytes(packs, gone) + _waste(packs, parts) - again.nbytes,
        "needed": sorted(plan.needed),
        "unverified": sorted(plan.unverified),
    }
    lines = _lines(place.name, {**packs, **parts}, plan, gone, "would remove" if args.dry_run else "removed")
    if again.replaced:
        verb = "would store" if args.dry_run else "stored"
        what = f"{plural(len(again.replaced), 'bundle')} of small tensors again"
        lines.insert(1, f"{verb} {what}, without those that need not be kept: {human_bytes(again.nbytes)}")
    if parts:
        verb = "would copy" if args.dry_run else "copied"
        size = human_bytes(_waste(packs, parts))
        lines.insert(1, f"{verb} what is needed out of {plural(len(parts), 'pack')}, which removes {size} more")
    output.result(data, lines)
    if not args.verify and plan.unverified:
        _note_listed(output, workspace, place, [{**packs, **parts}[name] for name in plan.unverified])
    return 0


def _note_listed(output: Output, workspace: Workspace, place: OpenedRemote, kept: Sequence[PackHeader]) -> None:
    """Say what to run if packs are kept although the remote lists what is in them, as after a fetch of some ranges."""
    tensors = [tensors_of({"": header}) for header in kept]
    there = read_remote_index(workspace.store, place).held(set().union(*tensors))
    listed = [each for each in tensors if each <= there]
    if listed:
        what = f"{place.name} lists the content of {plural(len(listed), 'pack')} that cannot be compared"
        output.note(f"{what}; git theta prune --verify downloads it and checks every byte")


def _waste(packs: Mapping[str, PackHeader], parts: Mapping[str, PackHeader]) -> int:
    return sum(packs[name].pack_bytes - part.pack_bytes for name, part in parts.items())


def _nbytes(packs: Mapping[str, PackHeader], names: Iterable[str]) -> int:
    return sum(packs[name].pack_bytes for name in names)


def _lines(remote: str, packs: Mapping[str, PackHeader], plan: Prune, gone: list[str], verb: str) -> list[str]:
    lines = [f"{verb} {plural(len(gone), 'pack')}, {human_bytes(_nbytes(packs, gone))}, which {remote} holds"]
    for names, why in (
        (plan.needed, "needed here"),
        (plan.unverified, f"not verified on {remote}"),
    ):
        if names:
            lines.append(f"kept {plural(len(names), 'pack')}, {human_bytes(_nbytes(packs, names))}: {why}")
    return lines
