"""Stage checkpoints, faster than git add.

Does what git add does, but reads the files itself instead of receiving them through a pipe.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from git_theta_ext.cli.commands.ls_files import summary
from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.errors import ConfigError, ThetaError, UsageError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.hooks import ensure_hooks, notes
from git_theta_ext.git.install import configured
from git_theta_ext.git.pathspecs import addable_paths, worktree_of
from git_theta_ext.operations.filter.written_files import finish_written_files
from git_theta_ext.operations.maintenance.auto_gc import start_if_due
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.registry import built_in, names
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Sequence

    from git_theta_ext.cli.commands._staging import Work
    from git_theta_ext.cli.output import Output
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.staging.update import UpdateSource
    from git_theta_ext.update.tolerance import Tolerance

GROUP = "daily"
EXAMPLE = "git theta add model.safetensors checkpoints/"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("paths", metavar="PATH", nargs="+", help="files, directories or quoted patterns")
    parser.add_argument("-n", "--dry-run", action="store_true", help="list what would be staged, and stage nothing")
    parser.add_argument(
        "--update",
        metavar="KIND=FILE",
        help=f"apply an update to HEAD's version and store only the update; KIND is {', '.join(built_in('updates'))}",
    )
    parser.add_argument(
        "--atol", metavar="X", type=float, help="keep HEAD's value of a parameter if no element changed by more than X"
    )
    parser.add_argument("--rtol", metavar="Y", type=float, help="like --atol, plus Y times the previous value")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Stage checkpoints."""
    update, tolerance = _update(args), _tolerance(args)
    output = output_of(args)
    with Workspace.discover(output) as workspace:
        return _stage(output, workspace, args, update, tolerance)


def _stage(
    output: Output,
    workspace: Workspace,
    args: argparse.Namespace,
    update: UpdateSource | None,
    tolerance: Tolerance | None,
) -> int:
    from git_theta_ext.cli.commands._staging import Staging
    from git_theta_ext.operations.staging.stage import regular_file, rewrite_and_stage

    repo = workspace.repo
    with suppress(ThetaError):  # it concerns other files
        finish_written_files(workspace)
    formats, gone = _chosen(repo, args.paths, output)
    if update is not None and gone:
        raise UsageError(
            f"{repo.shown(gone[0])} is missing, so there is nothing to update",
            hint=f"git checkout -- {repo.argument(gone[0])}",
        )
    total = sum(regular_file(repo, path).st_size for path in formats)
    with output.progress("storing", total) as advance:
        staging = Staging(workspace, advance, dry_run=args.dry_run)
        if update is not None:
            work = staging.update(formats, update)
        elif tolerance is not None:
            work = staging.revert_small_changes(formats, tolerance)
        else:
            work = staging.plain(formats)
    if args.dry_run:
        return _say_dry(output, repo, work, gone, formats)
    before = {entry.path: entry.oid for entry in repo.entries(None) if not entry.stage}
    staged, oids = rewrite_and_stage(workspace, work.rewrites, work.staged)
    if gone:
        names = "".join(f"{path}\0" for path in gone)
        repo.run("update-index", "--force-remove", "-z", "--stdin", input=names.encode(errors="surrogateescape"))
    for note in filter(None, (item.note for item in staged)):
        output.warning(note)
    _ensure_hook(repo, output)
    start_if_due(workspace)
    changed = {path: before.get(path) != oid for path, oid in oids.items()}
    added = [
        {
            "path": item.path,
            "manifest": oids[item.path],
            "format": item.manifest.format,
            "parameters": len(item.manifest.parameters),
            "bytes": item.stat.st_size,
            "changed": changed[item.path],
            **work.details.get(item.path, {}),
        }
        for item in staged
    ]
    lines = [
        f"{'added' if changed[item.path] else 'unchanged'} {repo.shown(item.path)}: "
        f"{summary(item.manifest)}{_in_brackets(work.notes.get(item.path))}"
        for item in staged
    ]
    output.result({"added": added, "removed": gone}, [*lines, *(f"removed {repo.shown(path)}" for path in gone)])
    return 0


def _say_dry(output: Output, repo: Repository, work: Work, gone: Sequence[str], formats: Collection[str]) -> int:
    lines = [f"would add {repo.shown(path)}{_in_brackets(work.notes.get(path))}" for path in formats]
    data: dict[str, Any] = {"would_add": list(formats), "would_remove": gone}
    if work.details:
        data["details"] = [{"path": path, **details} for path, details in work.details.items()]
    output.result(data, [*lines, *(f"would remove {repo.shown(path)}" for path in gone)])
    return 0


def _in_brackets(note: str | None) -> str:
    return f" ({note})" if note else ""


def _update(args: argparse.Namespace) -> UpdateSource | None:
    if args.update is None:
        return None
    kind, equals, file = args.update.partition("=")
    if not equals or not file or (kind not in built_in("updates") and kind not in names("updates")):
        hint = f"git theta add PATH --update KIND=FILE; KIND is one of {', '.join(names('updates'))}"
        raise UsageError(f"--update {args.update} does not have the form KIND=FILE", hint=hint)
    if args.atol is not None or args.rtol is not None:
        raise UsageError("--update cannot be used together with --atol or --rtol", hint="git theta add -h")
    from git_theta_ext.operations.staging.update import UpdateSource

    return UpdateSource(kind, Path(file))


def _tolerance(args: argparse.Namespace) -> Tolerance | None:
    if args.atol is None and args.rtol is None:
        return None
    from git_theta_ext.update.tolerance import Tolerance

    return Tolerance(args.atol or 0.0, args.rtol or 0.0)


def _chosen(repo: Repository, specs: Sequence[str], output: Output) -> tuple[dict[str, str | None], list[str]]:
    """Return the checkpoints that the user named, with their formats, and those deleted from the work tree."""
    top = worktree_of(repo)
    paths = [path for path in addable_paths(repo, specs) if not (top / path).is_dir() or (top / path).is_symlink()]
    formats = theta_paths(repo.run, paths)
    if not formats:
        raise UsageError(
            f"{repo.shown(paths[0]) if paths else shown_path(specs[0])} is not tracked by git theta",
            hint="git theta track PATTERN, or git add PATH for other files",
        )
    if not configured(repo):
        raise ConfigError("git is not configured to use git theta", hint="git theta install")
    gone = [path for path in formats if not os.path.lexists(top / path)]
    # A link that the user named is refused later. A directory may contain links besides its checkpoints.
    named = {os.path.abspath(spec) for spec in specs}  # noqa: PTH100 - resolve() would follow the link
    links = [path for path in formats if (top / path).is_symlink() and str(top / path) not in named]
    if len(formats) > len(links):
        for path in links:
            shown = repo.shown(path)
            output.warning(f"{shown} is a symbolic link and has no parameters", f"git add {repo.argument(path)}")
            del formats[path]
    return {path: name for path, name in formats.items() if path not in gone}, gone


def _ensure_hook(repo: Repository, output: Output) -> None:
    for note, hint in notes(ensure_hooks(repo)):
        output.warning(note, hint)
