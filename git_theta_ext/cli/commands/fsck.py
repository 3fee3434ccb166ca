"""Check that parameters are stored, intact and tracked.

Checks the versions in commits and the index. Does not read packs and versions again that an earlier check found intact
and that did not change in the week since. With --repair, replaces damaged packs with good copies from work trees,
other packs and remotes. With --remote, checks that a remote has everything that branches and tags need. With --raw,
checks only that git itself stores no checkpoint, as a hook or a CI job does; needs no tensor and no remote.
"""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.cli.render.repair import done_json, done_lines, names_of, plan_json, plan_lines
from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import CorruptError, MissingError, UsageError
from git_theta_ext.git.repository import Repository
from git_theta_ext.git.worktrees import worktrees
from git_theta_ext.operations.maintenance.fsck import (
    check_attributes,
    check_store,
    reachable_manifests,
    restore_lost,
)
from git_theta_ext.operations.maintenance.fsck_changes import check_changes
from git_theta_ext.operations.maintenance.raw_checkpoints import check_raw
from git_theta_ext.operations.sync.remotes import try_remotes
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.store.locks import gc_lock
from git_theta_ext.store.maintenance.fsck import (
    NAMED,
    Problem,
    specs_of,
    users,
)
from git_theta_ext.transfer.elsewhere import Remotes
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.cli.output import Output
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.store import Store


GROUP = "maintain"
EXAMPLE = "git theta fsck --full"

_REMEDIES = {
    "corrupt": ("some packs are damaged", "git theta fsck --full --repair"),
    "missing": (
        "some tensors are missing",
        "run git theta push --all in a clone that has them, then git theta checkout --force",
    ),
}


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--full", action="store_true", help="read every pack, decode every tensor and compare it with its digest"
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="replace damaged or missing data with good copies from work trees, other packs and remotes",
    )
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="with --repair: show what would be done, and do nothing"
    )
    parser.add_argument(
        "--remote", metavar="REMOTE", nargs="?", const="", help="check a remote instead; default: the one git push uses"
    )
    parser.add_argument(
        "--raw", action="store_true", help="check only that git stores no checkpoint itself, in the index or in commits"
    )
    parser.add_argument(
        "revisions",
        metavar="REV",
        nargs="*",
        help="with --raw: a commit, or a range such as A..B, of which each commit is checked; default: the index",
    )
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Check, and repair if requested."""
    if args.dry_run and not args.repair:
        raise UsageError("--dry-run needs --repair: a check changes nothing", hint="git theta fsck --repair --dry-run")
    output = output_of(args)
    if args.raw:
        if args.full or args.repair or args.remote is not None:
            raise UsageError("--raw reads no tensors: it takes no other option", hint="git theta fsck --raw")
        return _raw(output, Repository.discover(), args.revisions)
    if args.revisions:
        command = shlex.join(["git", "theta", "fsck", "--raw", *args.revisions])
        raise UsageError("fsck checks all versions: only --raw takes commits", hint=command)
    if args.remote is not None:
        if args.repair:
            raise UsageError(
                "--repair and --remote cannot be used together",
                hint=" ".join(["git theta push --all", *([shlex.quote(args.remote)] if args.remote else [])]),
            )
        from git_theta_ext.cli.commands._fsck_remote import check

        with Workspace.discover(output) as workspace:
            return check(output, workspace, args.remote or None, full=args.full)
    with Workspace.discover(output) as workspace:
        return _here(output, workspace, args)


def _raw(output: Output, repo: Repository, revs: Sequence[str]) -> int:
    report = check_raw(repo, revs)
    lines = [_line(problem, {}) for problem in report.problems]
    data = {"problems": [asdict(problem) for problem in report.problems], "command": report.command}
    output.result(data, lines or ["git stores no checkpoint itself"])
    if report.command:
        output.warning("commits keep such a file after another commit removes it", report.command)
    return CorruptError.exit_code if report.problems else 0


def _here(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    repo, store = workspace.repo, workspace.store
    # A bare repository without linked work trees is cloned from: what only its remotes hold is missing for the clones.
    remotes = Remotes(*try_remotes(workspace), count=repo.worktree is not None or len(worktrees(repo)) > 1)
    changes = None if args.full or args.repair else check_changes(workspace, remotes)
    if changes is not None and changes.kept:
        kept = f"{plural(changes.kept, 'pack')} did not change since an earlier check"
        was = "was" if changes.kept == 1 else "were"
        output.note(f"{kept} and {was} not read; git theta fsck --full reads all")
    unreadable = check_attributes(repo)
    if changes is not None and changes.versions is not None and not unreadable:
        output.result({"manifests": changes.versions, "problems": [], "unasked": []}, [_healthy(changes.versions)])
        return 0
    manifests, paths, faults = reachable_manifests(repo)
    unreadable = faults + unreadable
    data: dict[str, Any] = {"manifests": len(manifests)}
    lines: list[str] = []
    # A garbage collection could remove the last good copy of what a damaged pack holds.
    with gc_lock(store.root, wait=True) if args.repair and not args.dry_run else nullcontext():
        if args.repair and not args.dry_run and not remotes.count:
            with output.progress("fetching", 0) as advance:
                remotes.fill(store, manifests, advance)
        packs = None if changes is None else changes.packs
        problems = check_store(workspace, remotes, manifests, full=args.full, packs=packs)
        if args.repair:
            heal = partial(restore_lost, workspace, manifests, paths)
            problems, data["repair"], lines = _repair(
                remotes, store, manifests, problems, heal, output, dry_run=args.dry_run
            )
    problems = unreadable + problems
    needed = users(store, manifests, [problem.pack for problem in problems if problem.pack])
    data["problems"] = [asdict(p) | {"needed_by": needed.get(p.pack, [])} for p in problems]
    lines += [_line(problem, needed) for problem in problems]
    if not problems:
        lines.append(_healthy(len(manifests)))
    kinds = {problem.kind for problem in problems}
    unasked = list(dict.fromkeys(error.message for error in remotes.failures)) if "missing" in kinds else []
    data["unasked"] = unasked
    output.result(data, lines)
    for message in unasked:
        output.warning(f"{message}; parameters that only this remote holds count as missing")
    if not remotes.count and remotes.held(store, manifests):
        output.warning("remotes hold parameters that this repository lacks", "git theta fsck --repair")
    for kind in sorted((kinds & set(_REMEDIES)) - ({"corrupt"} if args.repair else set())):
        output.warning(*_REMEDIES[kind])
    if not kinds:
        return 0
    return MissingError.exit_code if kinds == {"missing"} else CorruptError.exit_code


def _healthy(versions: int) -> str:
    return f"{plural(versions, 'version')} of checkpoints, no problems"


def _line(problem: Problem, needed: Mapping[str, Sequence[str]]) -> str:
    text = f"{problem.kind}: {problem.where}: {problem.what}"
    if not problem.pack:
        return text
    users = needed.get(problem.pack)
    return f"{text}; needed by {shortlist(users, NAMED)}" if users else f"{text}; not needed by any manifest"


def _repair(  # noqa: PLR0913, PLR0917 - it joins the remotes, the store and the manifests
    remotes: Remotes,
    store: Store,
    manifests: Mapping[str, Manifest],
    problems: Sequence[Problem],
    heal: Callable[[AbstractSet[Digest]], Mapping[Digest, str]],
    output: Output,
    *,
    dry_run: bool,
) -> tuple[list[Problem], dict[str, Any], list[str]]:
    """Repair, and return the remaining problems and what was done, as JSON and as text."""
    from git_theta_ext.transfer.repair import plan_repair, repair

    named = specs_of(manifests.values())
    places = remotes.opened
    paths = {Path(problem.pack) for problem in problems if problem.pack}
    packs = {path.name for path in paths if path == store.pack_path(path.name)}
    plan = plan_repair(store, places, named, packs)
    if dry_run:
        return list(problems), plan_json(plan), list(plan_lines(plan, manifests.values()))
    if not plan.packs and not plan.broken:
        return list(problems), {}, ["nothing to repair"]
    with output.progress("fetching", 0) as advance:
        done = repair(store, places, named, plan, heal, advance)
    moved = {str(store.pack_path(name)) for name in (*done.removed, *done.quarantined)}
    left = [problem for problem in problems if problem.pack and problem.pack not in moved]
    left += done.problems
    left += remotes.problems(store, manifests)
    names = names_of(manifests, {*done.sources, *done.lost})
    return left, done_json(done, names), list(done_lines(store, done, names))
