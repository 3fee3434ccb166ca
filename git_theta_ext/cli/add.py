"""Stage checkpoints: as git add does, but without sending them through git's pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.cli.output import add_options, human_bytes, output_of, plural
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
    formats = _chosen(repo, args.paths)
    total = sum(regular_file(repo, path).st_size for path in formats)
    if args.dry_run:
        output.result({"would_add": list(formats)}, [f"would add {path}" for path in formats])
        return 0
    store = repo.store()
    with progress("storing", total, wanted=output.mode == "human") as advance:
        staged = [store_file(repo, store, path, name, advance) for path, name in formats.items()]
    oids = update_index(repo, staged)
    for note in filter(None, (item.note for item in staged)):
        output.warn(note)
    _ensure_hook(repo, output)
    output.result(
        {
            "added": [
                {
                    "path": item.path,
                    "manifest": oids[item.path],
                    "format": item.manifest.format,
                    "parameters": len(item.manifest.parameters),
                    "bytes": item.stat.st_size,
                }
                for item in staged
            ]
        },
        [
            f"added {item.path}: {item.manifest.format}, {plural(len(item.manifest.parameters), 'parameter')}, "
            f"{human_bytes(item.stat.st_size)}"
            for item in staged
        ],
    )
    return 0


def _chosen(repo: Repository, specs: Sequence[str]) -> dict[str, str | None]:
    """Return path to format name of the checkpoints among what the user named."""
    top = worktree_of(repo)
    paths = [path for path in addable_paths(repo, specs) if (top / path).is_symlink() or (top / path).is_file()]
    found = theta_paths(repo.run, paths)
    if not found:
        raise UsageError(
            f"{paths[0] if paths else specs[0]} is not tracked by git theta",
            hint="git theta track PATTERN, or git add for files that are no models",
        )
    if not configured(repo):
        raise ConfigError("git does not know the filter yet", hint="git theta install")
    return found


def _ensure_hook(repo: Repository, output: Output) -> None:
    for change in ensure_hooks(repo):
        if change.what == "todo":
            output.warn(f"{change.where} is not ours, so pushes do not upload parameters", "git theta install")
