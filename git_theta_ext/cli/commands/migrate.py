"""Rewrite history from plain git or Git LFS to git theta, or back.

What the refs named before is kept under refs/original until you remove it. An interrupted migration continues when the
command runs again.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.diff.words import human_bytes, plural
from git_theta_ext.operations.migrate.finish import state_folder
from git_theta_ext.operations.migrate.run import Wish, migrate_import
from git_theta_ext.operations.workspace import Workspace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from git_theta_ext.cli.output import Output
    from git_theta_ext.operations.migrate.run import Migrated

GROUP = "start"
EXAMPLE = "git theta migrate import --include '*.safetensors' --everything"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    imported = actions.add_parser("import", help="rewrite history to git theta", allow_abbrev=False)
    _add_patterns(imported, required=True)
    _add_refs(imported)
    imported.add_argument(
        "--allow-missing", action="store_true", help="leave pointers of Git LFS whose content cannot be fetched"
    )
    imported.add_argument("-n", "--dry-run", action="store_true", help="show what would be done, and do nothing")
    add_options(imported)


def _add_patterns(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--include",
        metavar="PATTERN",
        action="append",
        default=[],
        required=required,
        help="pattern of the paths of models, as in .gitattributes",
    )
    parser.add_argument(
        "--exclude", metavar="PATTERN", action="append", default=[], help="pattern of paths that are left out"
    )


def _add_refs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "refs", metavar="REF", nargs="*", help="branches and tags to rewrite; default: the current branch"
    )
    parser.add_argument("--everything", action="store_true", help="rewrite all branches and tags")


def run(args: argparse.Namespace) -> int:
    """Migrate."""
    output = output_of(args)
    with Workspace.discover(output) as workspace:
        return _import(output, workspace, args)


def _import(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    wish = Wish(
        tuple(args.include),
        tuple(args.exclude),
        tuple(args.refs),
        args.everything,
        args.allow_missing,
        args.dry_run,
    )
    done = migrate_import(workspace, wish)
    folder = state_folder(workspace.repo)
    data = {
        "dry_run": args.dry_run,
        "commits": done.commits,
        "files": done.files,
        "versions": done.versions,
        "bytes": done.nbytes,
        "left": [{"path": path, "sha256": sha256} for path, sha256 in done.left],
        "signatures": done.signatures,
        "refs": [asdict(move) for move in done.moves],
        "resumed": done.resumed,
        "commit_map": str(folder / "commit-map") if done.moves else None,
    }
    output.result(data, _lines(done, str(folder / "commit-map"), dry=args.dry_run))
    if done.signatures:
        would = "would lose" if args.dry_run else "have lost"
        output.warning(f"{plural(done.signatures, 'commit')} or tags {would} their signature")
    return 0


def _lines(done: Migrated, commit_map: str, *, dry: bool) -> Iterator[str]:
    if done.resumed:
        yield "completed the interrupted migration"
    elif not done.versions:
        yield "no file in history matches"
    else:
        size = f"{plural(done.versions, 'version')} of {plural(done.files, 'file')}, {human_bytes(done.nbytes)}"
        yield f"{'would migrate' if dry else 'migrated'} {size}, in {plural(done.commits, 'commit')}"
    for path, sha256 in done.left:
        yield f"left {path}: object {sha256} of Git LFS is missing"
    for move in done.moves:
        yield f"rewrote {move.ref}, which was {move.old[:12]} and is {move.new[:12]}"
    if done.moves:
        yield f"new ids of commits: {commit_map}"
