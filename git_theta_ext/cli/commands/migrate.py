"""Rewrite history from plain git or Git LFS to git theta, or back.

"info" says what an import would save. What the refs named before is kept under refs/original until you remove it. An
interrupted migration continues when the command runs again.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.cli.parser import Formatter
from git_theta_ext.comparison.words import human_bytes, plural
from git_theta_ext.errors import UsageError
from git_theta_ext.operations.migrate.attributes import Tracked
from git_theta_ext.operations.migrate.exporting import export_history
from git_theta_ext.operations.migrate.finish import state_folder
from git_theta_ext.operations.migrate.importing import import_history
from git_theta_ext.operations.migrate.info import migration_info
from git_theta_ext.operations.migrate.run import Scope
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from git_theta_ext.cli.output import Output
    from git_theta_ext.operations.migrate.info import Share
    from git_theta_ext.operations.migrate.run import Migrated
    from git_theta_ext.operations.workspace import Workspace

GROUP = "start"
EXAMPLE = "git theta migrate import --include '*.safetensors' --everything"

_NO_MATCH = "no file in history matches; patterns with a slash begin at the top of the repository"
_IMPORT = """\
Move the models of history to git theta: from git, from Git LFS, or from what
git-theta 0.2.0 committed. Objects of Git LFS that are not on this machine are
fetched. Commits get new ids; everything else in them stays. --include is required,
and may be given several times."""
_EXPORT = """\
Move the models of history from git theta to Git LFS or to git itself. Parameters
that are not on this machine are fetched. Objects of Git LFS are stored on this
machine; a push uploads them."""
_INFO = """\
List the files of history by the endings of their names, the largest first: what
all versions take now, and what they would take after an import and git theta gc.
Without --include, files that were never larger than 100 kB are left out."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    imported = _action(actions, "import", "rewrite history to git theta", _IMPORT, EXAMPLE)
    _add_patterns(imported)
    imported.add_argument(
        "--allow-missing", action="store_true", help="leave pointers of Git LFS whose content cannot be fetched"
    )
    imported.add_argument(
        "--as",
        dest="kind",
        choices=("safetensors", "torch", "flax"),
        help="format of checkpoints of git-theta 0.2.0; default: flax if they are nested, else by their names",
    )
    exported = _action(
        actions, "export", "rewrite history to Git LFS or plain git", _EXPORT, "git theta migrate export --to lfs"
    )
    exported.add_argument("--to", choices=("lfs", "plain"), required=True, help="what versions models from then on")
    info = _action(actions, "info", "show what import would save", _INFO, "git theta migrate info --everything")
    _add_patterns(info)
    info.add_argument("--all", action="store_true", help="estimate from all versions instead of some")
    for action in (imported, exported, info):
        action.add_argument("refs", metavar="REF", nargs="*", help="branches and tags; default: the current branch")
        action.add_argument("--everything", action="store_true", help="all branches and tags")
    for action in (imported, exported):
        action.add_argument("-n", "--dry-run", action="store_true", help="show what would be done, and do nothing")
    for action in (imported, exported, info):
        add_options(action)


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    description: str,
    example: str,
) -> argparse.ArgumentParser:
    return actions.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=Formatter,
        allow_abbrev=False,
    )


def _add_patterns(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--include",
        metavar="PATTERN",
        action="append",
        default=[],
        help="pattern of the paths of models, as in .gitattributes",
    )
    parser.add_argument(
        "--exclude", metavar="PATTERN", action="append", default=[], help="pattern of paths that are left out"
    )


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Migrate."""
    if args.action == "info":
        tracked = Tracked(tuple(args.include), tuple(args.exclude))
        scope = Scope(tuple(args.refs), args.everything)
        _show(output, migration_info(workspace, scope, tracked, complete=args.all), included=bool(args.include))
        return 0
    scope = Scope(tuple(args.refs), args.everything, args.dry_run)
    if args.action == "import":
        if not args.include:
            raise UsageError("no pattern of the paths of models: --include PATTERN", hint="git theta migrate info")
        tracked = Tracked(tuple(args.include), tuple(args.exclude))
        done = import_history(workspace, scope, tracked, allow_missing=args.allow_missing, kind=args.kind)
    else:
        done = export_history(workspace, scope, lfs=args.to == "lfs")
    _report(output, done, str(state_folder(workspace.repo) / "commit-map"), dry=args.dry_run)
    return 0


def _show(output: Output, shares: Sequence[Share], *, included: bool) -> None:
    fields = ("pattern", "files", "versions", "nbytes", "now", "missing", "after", "sampled")
    data = [{name.replace("nbytes", "bytes"): getattr(share, name) for name in fields} for share in shares]
    nothing = _NO_MATCH if included else "history has no file of 100 kB or more"
    output.result({"patterns": data}, [line for share in shares for line in _share(share)] or [nothing])


def _share(share: Share) -> Iterator[str]:
    yield f"{share.pattern}: {plural(share.versions, 'version')} of {plural(share.files, 'file')}"
    stored = "of which {} are here" if share.missing else "stored in {} now"
    yield f"  {human_bytes(share.nbytes)}, {stored.format(human_bytes(share.now))}"
    if share.missing:
        yield f"  {plural(share.missing, 'version')} in Git LFS to fetch first"
    if share.after is not None:
        # Versions of which one is here cannot be compared, so they seem to share nothing.
        limit = "at most" if share.missing else "about"
        yield f"  {limit} {human_bytes(share.after)} with git theta (estimated from {human_bytes(share.sampled)})"


def _report(output: Output, done: Migrated, commit_map: str, *, dry: bool) -> None:
    data = {
        "dry_run": dry,
        "commits": done.commits,
        "files": done.files,
        "versions": done.versions,
        "bytes": done.nbytes,
        "left": [{"path": path, "reason": reason} for path, reason in done.left],
        "fetched": {"objects": done.fetched, "bytes": done.fetched_bytes},
        "signatures": done.signatures,
        "refs": [asdict(move) for move in done.moves],
        "resumed": done.resumed,
        "commit_map": commit_map if done.moves else None,
    }
    output.result(data, _lines(done, commit_map, dry=dry))
    if done.signatures and done.versions:
        would = "may lose" if dry else "have lost"
        output.warning(f"{plural(done.signatures, 'commit')} or tags {would} their signature")


def _lines(done: Migrated, commit_map: str, *, dry: bool) -> Iterator[str]:
    if done.resumed:
        yield "completed the interrupted migration"
    elif not done.versions:
        yield "no version can be migrated" if done.left else _NO_MATCH
    else:
        size = f"{plural(done.versions, 'version')} of {plural(done.files, 'file')}, {human_bytes(done.nbytes)}"
        yield f"{'would migrate' if dry else 'migrated'} {size}, in {plural(done.commits, 'commit')}"
    if done.fetched:
        size = f"{plural(done.fetched, 'object')} of Git LFS, {human_bytes(done.fetched_bytes)}"
        yield f"{'would fetch' if dry else 'fetched'} {size}"
    for path, reason in done.left:
        yield f"left {shown_path(path)}: {reason}"
    if done.moves:
        yield f"rewrote {shortlist(move.ref for move in done.moves)}; refs/original has what they were"
        yield f"new ids of commits: {commit_map}"
