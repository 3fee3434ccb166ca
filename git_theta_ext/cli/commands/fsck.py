"""Check that parameters are stored, intact and tracked.

Checks what commits and the index name. With --repair, replaces damaged packs with good copies from work trees, other
packs and remotes. With --remote, checks that a remote has everything that branches and tags name.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.cli.render.repair import done_json, done_lines, names_of, plan_json, plan_lines
from git_theta_ext.diff.words import plural
from git_theta_ext.errors import CorruptError, ManifestError, MissingError, UsageError
from git_theta_ext.git.install import configured
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.git.revisions import head_of
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.operations.history.versions import versions
from git_theta_ext.operations.sync.outgoing import theta_paths_at
from git_theta_ext.operations.sync.remotes import try_remotes
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.store.locks import gc_lock
from git_theta_ext.store.maintenance.fsck import (
    NAMED,
    Problem,
    check_manifests,
    check_packs,
    check_tensors,
    known_bad,
    specs_of,
    stored_specs,
    users,
)
from git_theta_ext.transfer.elsewhere import Remotes
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.cli.output import Output
    from git_theta_ext.git.repository import Repository
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
    parser.add_argument("--full", action="store_true", help="also decode every tensor and compare it with its digest")
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
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Check, and repair if requested."""
    if args.dry_run and not args.repair:
        raise UsageError("--dry-run needs --repair: a check changes nothing", hint="git theta fsck --repair --dry-run")
    output = output_of(args)
    if args.remote is not None:
        if args.repair:
            raise UsageError(
                "--repair and --remote exclude each other",
                hint=" ".join(["git theta push --all", *([quote(args.remote)] if args.remote else [])]),
            )
        from git_theta_ext.cli.commands._fsck_remote import check

        with Workspace.discover(output) as workspace:
            return check(output, workspace, args.remote or None, full=args.full)
    with Workspace.discover(output) as workspace:
        return _here(output, workspace, args)


def _here(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    repo, store = workspace.repo, workspace.store
    manifests, paths, unreadable = _manifests(repo)
    unreadable += _raw(repo)
    # A bare repository is cloned from: what only its remotes hold is missing for the clones.
    remotes = Remotes(*try_remotes(workspace), count=repo.worktree is not None)
    data: dict[str, Any] = {"manifests": len(manifests)}
    lines: list[str] = []
    # A garbage collection could remove the last good copy of what a damaged pack holds.
    with gc_lock(store.root, wait=True) if args.repair and not args.dry_run else nullcontext():
        if args.repair and not args.dry_run and not remotes.count:
            with output.progress("fetching", 0) as advance:
                remotes.fill(store, manifests, advance)
        problems = _check(remotes, store, manifests, output, full=args.full)
        if args.repair:
            heal = partial(_heal, workspace, manifests, paths)
            problems, data["repair"], lines = _repair(
                remotes, store, manifests, problems, heal, output, dry_run=args.dry_run
            )
    problems = unreadable + problems
    needed = users(store, manifests, [problem.pack for problem in problems if problem.pack])
    data["problems"] = [asdict(p) | {"needed_by": needed.get(p.pack, [])} for p in problems]
    lines += [_line(problem, needed) for problem in problems]
    if not problems:
        lines.append(f"{plural(len(manifests), 'version')} of checkpoints, no problems")
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


def _line(problem: Problem, needed: Mapping[str, Sequence[str]]) -> str:
    text = f"{problem.kind}: {problem.where}: {problem.what}"
    if not problem.pack:
        return text
    users = needed.get(problem.pack)
    return f"{text}; needed by {shortlist(users, NAMED)}" if users else f"{text}; not needed by any manifest"


def _check(
    remotes: Remotes, store: Store, manifests: Mapping[str, Manifest], output: Output, *, full: bool
) -> list[Problem]:
    with output.progress("checking packs", sum(path.stat().st_size for _, path in store.pack_files())) as advance:
        problems = list(check_packs(store, advance))
    with output.progress("checking manifests", sum(n for m in manifests.values() for _, n in m.digests())) as advance:
        elsewhere = remotes.elsewhere(store, manifests)
        problems += check_manifests(store, manifests, elsewhere=elsewhere, advance=advance)
    if not full:
        damaged = {problem.pack for problem in problems}
        problems += [problem for problem in known_bad(store) if problem.pack not in damaged]
    else:
        wanted = {**stored_specs(store), **specs_of(manifests.values())}
        with output.progress("decoding", sum(spec.nbytes for spec in wanted.values())) as advance:
            damaged = {problem.pack for problem in problems}
            decoded = check_tensors(store, wanted, advance)
            # The damage of the pack is reported already.
            problems += [problem for _, problem in decoded if not problem.pack or problem.pack not in damaged]
    return problems


def _heal(
    workspace: Workspace, manifests: Mapping[str, Manifest], paths: Mapping[str, str], lost: AbstractSet[Digest]
) -> dict[Digest, str]:
    """Store lost tensors again from files in work trees, at the paths of the manifests that name them."""
    from git_theta_ext.operations.maintenance.worktree_restore import restore_from_worktrees

    lacking = (name for name, manifest in manifests.items() if any(digest in lost for digest, _ in manifest.digests()))
    return restore_from_worktrees(workspace, {paths[name] for name in lacking}, lost) if lost else {}


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
        return list(problems), plan_json(plan), list(plan_lines(plan))
    if not plan.packs and not plan.broken:
        return list(problems), {}, ["nothing to repair"]
    with output.progress("fetching", 0) as advance:
        done = repair(store, places, named, plan, heal, advance)
    moved = {str(store.pack_path(name)) for name in (*done.removed, *done.quarantined)}
    left = [problem for problem in problems if problem.pack and problem.pack not in moved]
    left += done.problems
    left += check_manifests(store, manifests, elsewhere=remotes.elsewhere(store, manifests))
    names = names_of(manifests, {*done.sources, *done.lost})
    return left, done_json(done, names), list(done_lines(store, done, names))


def _manifests(repo: Repository) -> tuple[dict[str, Manifest], dict[str, str], list[Problem]]:
    """Return every manifest that a ref, a reflog or an index reaches, and its path, both by a readable name.

    The name is the path and the first commit that has the manifest there.
    """
    manifests: dict[str, Manifest] = {}
    paths: dict[str, str] = {}
    seen = set()
    for version in versions(repo):
        seen.add(version.oid)
        commit = "staged" if version.commit is None else version.commit[:12]
        name = f"{version.path} ({commit})"
        manifests[name], paths[name] = version.manifest, version.path
    others = {}
    lines = repo.run("rev-list", "--objects", "--missing=allow-promisor", "--all", "--reflog", "--indexed-objects")
    for line in lines.decode(errors="surrogateescape").split("\n")[:-1]:
        oid, _, path = line.partition(" ")
        if path and oid not in seen:
            others[oid] = path
    problems: list[Problem] = []
    # Invalid manifests, and those that only the index of another work tree has.
    for oid, data in manifest_blobs(repo, object_infos(repo, others)):
        name = f"{others[oid]} (object {oid[:12]})"
        try:
            manifests[name], paths[name] = Manifest.parse(data), others[oid]
        except ManifestError as error:
            problems.append(Problem("corrupt", name, error.message))
    return manifests, paths, problems


def _raw(repo: Repository) -> list[Problem]:
    """Find checkpoints that the current commit stores as files, although its attributes ask for manifests."""
    head = head_of(repo)
    if head is None:
        return []
    files = {entry.path: entry.oid for entry in repo.entries(head) if entry.regular}
    tracked = theta_paths_at(repo, head, files)
    problems = []
    if tracked and not configured(repo):
        problems.append(Problem("config", "filter.theta.process", "is not set; git theta install"))
    infos = object_infos(repo, files.values())
    manifests = {oid for oid, _ in manifest_blobs(repo, infos)}
    raw = [path for path in tracked if files[path] not in manifests and infos[files[path]].nbytes]
    what = "git stores the file itself; git theta add it and commit"
    problems += [Problem("raw", f"HEAD:{path}", what) for path in raw]
    what = "the committed .gitattributes do not track this manifest, so clones get its text"
    bare = [path for path, oid in files.items() if oid in manifests and path not in tracked]
    return problems + [Problem("attribute", f"HEAD:{path}", what) for path in bare]
