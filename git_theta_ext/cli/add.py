"""Stage checkpoints: as git add does, but without sending them through git's pipe."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from git_theta_ext.cli.ls_files import summary
from git_theta_ext.cli.output import add_options, output_of
from git_theta_ext.cli.progress import progress
from git_theta_ext.errors import ConfigError, UsageError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.hooks import ensure_hooks
from git_theta_ext.git.install import configured
from git_theta_ext.git.paths import addable_paths, worktree_of
from git_theta_ext.git.repository import Repository

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from git_theta_ext.cli.output import Output
    from git_theta_ext.git.stage import Staged

EXAMPLE = "git theta add model.safetensors checkpoints/"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("paths", metavar="PATH", nargs="+", help="file, folder, or pattern in quotes")
    parser.add_argument("-n", "--dry-run", action="store_true", help="only list what would be staged")
    add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Stage."""
    from git_theta_ext.git.stage import regular_file, store_file, update_index

    output = output_of(args)
    repo = Repository.discover()
    formats, gone = _chosen(repo, args.paths, output)
    total = sum(regular_file(repo, path).st_size for path in formats)
    if args.dry_run:
        lines = [*(f"would add {path}" for path in formats), *(f"would remove {path}" for path in gone)]
        output.result({"would_add": list(formats), "would_remove": gone}, lines)
        return 0
    store = repo.store()
    with progress("storing", total, wanted=output.mode == "human") as advance:
        staged = [store_file(repo, store, path, name, advance) for path, name in formats.items()]
    before = {entry.path: entry.oid for entry in repo.entries(None) if not entry.stage}
    oids = update_index(repo, staged)
    if gone:
        names = "".join(f"{path}\0" for path in gone)
        repo.run("update-index", "--force-remove", "-z", "--stdin", input=names.encode(errors="surrogateescape"))
    for note in filter(None, (item.note for item in staged)):
        output.warn(note)
    _ensure_hook(repo, output)
    changed = {path: before.get(path) != oid for path, oid in oids.items()}
    output.result(
        {
            "added": [
                {
                    "path": item.path,
                    "manifest": oids[item.path],
                    "format": item.manifest.format,
                    "parameters": len(item.manifest.parameters),
                    "bytes": item.stat.st_size,
                    "changed": changed[item.path],
                }
                for item in staged
            ],
            "removed": gone,
        },
        [
            *(f"{'added' if changed[item.path] else 'unchanged'} {_summary(item)}" for item in staged),
            *(f"removed {path}" for path in gone),
        ],
    )
    return 0


def _summary(item: Staged) -> str:
    return f"{item.path}: {summary(item.manifest)}"


def _chosen(repo: Repository, specs: Sequence[str], output: Output) -> tuple[dict[str, str | None], list[str]]:
    """Return path to format name of the checkpoints among what the user named, and those deleted from the work tree."""
    top = worktree_of(repo)
    paths = [path for path in addable_paths(repo, specs) if not (top / path).is_dir() or (top / path).is_symlink()]
    found = theta_paths(repo.run, paths)
    if not found:
        raise UsageError(
            f"{paths[0] if paths else specs[0]} is not tracked by git theta",
            hint="git theta track PATTERN, or git add for files that are no models",
        )
    if not configured(repo):
        raise ConfigError("git does not know the filter yet", hint="git theta install")
    gone = [path for path in found if not os.path.lexists(top / path)]
    # Those that were named are refused later on; a folder may well have some beside its checkpoints.
    named = {os.path.abspath(spec) for spec in specs}  # noqa: PTH100 - resolving would follow the link
    links = [path for path in found if (top / path).is_symlink() and str(top / path) not in named]
    if len(found) > len(links):
        for path in links:
            output.warn(f"{path} is a symbolic link, which holds no parameters", f"git add {path}")
            del found[path]
    return {path: name for path, name in found.items() if path not in gone}, gone


def _ensure_hook(repo: Repository, output: Output) -> None:
    for change in ensure_hooks(repo):
        if change.what == "todo":
            output.warn(f"{change.where} is not ours, so pushes do not upload parameters", "git theta install")
