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

_MENDING = {
    "corrupt": ("damaged packs are of no more use", "git theta fsck --full --repair"),
    "missing": (
        "some tensors are lost here",
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
    """Check, and mend where that is asked for."""
    if args.dry_run and not args.repair:
        raise UsageError("--dry-run is for --repair: a check changes nothing", hint="git theta fsck --repair --dry-run")
    output = output_of(args)
    if args.remote is not None:
        if args.repair:
            raise UsageError(
                "--repair is for this repository",
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
    # Others clone from a bare repository: what only its remotes hold is missing to them.
    remotes = Remotes(*try_remotes(workspace), count=repo.worktree is not None)
    told: dict[str, Any] = {"manifests": len(manifests)}
    lines: list[str] = []
    # What a garbage collection takes for superfluous may be all that is left of a damaged pack.
    with gc_lock(store.root, wait=True) if args.repair and not args.dry_run else nullcontext():
        if args.repair and not args.dry_run and not remotes.count:
            with output.progress("fetching", 0) as advance:
                remotes.fill(store, manifests, advance)
        found = _check(remotes, store, manifests, output, full=args.full)
        if args.repair:
            heal = partial(_heal, workspace, manifests, paths)
            found, told["repair"], lines = _mend(remotes, store, manifests, found, heal, output, dry_run=args.dry_run)
    problems = unreadable + found
    needed = users(store, manifests, [problem.pack for problem in problems if problem.pack])
    told["problems"] = [asdict(p) | {"needed_by": needed.get(p.pack, [])} for p in problems]
    lines += [_line(problem, needed) for problem in problems]
    if not problems:
        lines.append(f"{plural(len(manifests), 'version')} of checkpoints, nothing wrong")
    kinds = {problem.kind for problem in problems}
    unasked = list(dict.fromkeys(error.message for error in remotes.failures)) if "missing" in kinds else []
    told["unasked"] = unasked
    output.result(told, lines)
    for message in unasked:
        output.warning(f"{message}; what only that remote holds counts as missing")
    if not remotes.count and remotes.held(store, manifests):
        output.warning("remotes of this repository hold what it lacks", "git theta fsck --repair")
    for kind in sorted((kinds & set(_MENDING)) - ({"corrupt"} if args.repair else set())):
        output.warning(*_MENDING[kind])
    if not kinds:
        return 0
    return MissingError.exit_code if kinds == {"missing"} else CorruptError.exit_code


def _line(problem: Problem, needed: Mapping[str, Sequence[str]]) -> str:
    text = f"{problem.kind}: {problem.where}: {problem.what}"
    if not problem.pack:
        return text
    users = needed.get(problem.pack)
    return f"{text}; needed by {shortlist(users, NAMED)}" if users else f"{text}; nothing that manifests name needs it"


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
            # What a damaged pack holds is wrong for a reason that was told.
            problems += [problem for _, problem in decoded if not problem.pack or problem.pack not in damaged]
    return problems


def _heal(
    workspace: Workspace, manifests: Mapping[str, Manifest], paths: Mapping[str, str], lost: AbstractSet[Digest]
) -> dict[Digest, str]:
    """Store again what files of work trees hold of what was lost, at the paths of the manifests that name it."""
    from git_theta_ext.operations.maintenance.worktree_recovery import store_again

    lacking = (name for name, manifest in manifests.items() if any(digest in lost for digest, _ in manifest.digests()))
    return store_again(workspace, {paths[name] for name in lacking}, lost) if lost else {}


def _mend(  # noqa: PLR0913, PLR0917 - the one place where all of it comes together
    remotes: Remotes,
    store: Store,
    manifests: Mapping[str, Manifest],
    problems: Sequence[Problem],
    heal: Callable[[AbstractSet[Digest]], Mapping[Digest, str]],
    output: Output,
    *,
    dry_run: bool,
) -> tuple[list[Problem], dict[str, Any], list[str]]:
    """Return the problems that are left, and what was done, for programs and for people."""
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
    """Return every manifest that a ref, a reflog or an index reaches, and its path, both by a name for people.

    The name is the path and the first commit that has the manifest there.
    """
    manifests: dict[str, Manifest] = {}
    paths: dict[str, str] = {}
    known = set()
    for version in versions(repo):
        known.add(version.oid)
        commit = "staged" if version.commit is None else version.commit[:12]
        name = f"{version.path} ({commit})"
        manifests[name], paths[name] = version.manifest, version.path
    others = {}
    lines = repo.run("rev-list", "--objects", "--missing=allow-promisor", "--all", "--reflog", "--indexed-objects")
    for line in lines.decode(errors="surrogateescape").split("\n")[:-1]:
        oid, _, path = line.partition(" ")
        if path and oid not in known:
            others[oid] = path
    problems: list[Problem] = []
    # Broken ones, and those that only another work tree's index has.
    for oid, data in manifest_blobs(repo, object_infos(repo, others)):
        name = f"{others[oid]} (object {oid[:12]})"
        try:
            manifests[name], paths[name] = Manifest.parse(data), others[oid]
        except ManifestError as error:
            problems.append(Problem("corrupt", name, error.message))
    return manifests, paths, problems


def _raw(repo: Repository) -> list[Problem]:
    """Find checkpoints that the current commit holds as they are, though its attributes ask for a manifest."""
    head = head_of(repo)
    if head is None:
        return []
    files = {entry.path: entry.oid for entry in repo.entries(head) if entry.regular}
    tracked = theta_paths_at(repo, head, files)
    problems = []
    if tracked and not configured(repo):
        problems.append(Problem("config", "filter.theta.process", "not set; git theta install"))
    infos = object_infos(repo, files.values())
    manifests = {oid for oid, _ in manifest_blobs(repo, infos)}
    raw = [path for path in tracked if files[path] not in manifests and infos[files[path]].nbytes]
    mend = "git holds the file itself; git theta add it and commit"
    problems += [Problem("raw", f"HEAD:{path}", mend) for path in raw]
    mend = "a manifest that no committed .gitattributes gives to git theta, so that clones get its text"
    bare = [path for path, oid in files.items() if oid in manifests and path not in tracked]
    return problems + [Problem("attribute", f"HEAD:{path}", mend) for path in bare]
