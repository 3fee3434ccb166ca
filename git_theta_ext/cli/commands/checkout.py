"""Write checkpoints that are still manifests in the work tree, or take parameters of another version.

Fetches missing parameters and finishes an interrupted git checkout. Hooks and "git rebase -x" commands run before
checkpoints are written; let them call git theta checkout first.

REV:PATH and patterns bring the parameters that match from that version into the file or model at PATH: they are staged
and written. The file must not differ from the index.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.cli.commands._parameters import is_version, take_parameters
from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import KeptError, UsageError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.pathspecs import present_paths, worktree_of
from git_theta_ext.git.revisions import head_of
from git_theta_ext.git.unattributed import advice, unattributed
from git_theta_ext.operations.filter.populate import (
    Wanted,
    manifest_at,
    populate_wanted,
    restore_manifests,
    total_bytes,
)
from git_theta_ext.operations.sync.fetch import ensure_local
from git_theta_ext.operations.sync.path_filter import fetch_filter

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence

    from git_theta_ext.cli.output import Output
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.workspace import Workspace

GROUP = "daily"
EXAMPLE = "git theta checkout model.safetensors"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        help="files, directories or quoted patterns; default: all. Or REV:PATH and patterns of parameters, such as "
        "'layers.3.**'",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="with REV:PATH: only list the parameters that would be taken"
    )
    parser.add_argument(
        "-f", "--force", action="store_true", help="also replace changed and deleted files with the index's version"
    )
    add_options(parser)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Write checkpoints."""
    repo = workspace.repo
    if args.paths and is_version(repo, args.paths[0]):
        return take_parameters(output, workspace, args)
    if args.dry_run:
        raise UsageError("--dry-run needs REV:PATH and a pattern", hint="git theta checkout -h")
    paths = list(theta_paths(repo.run, present_paths(repo, args.paths)))
    with output.progress("fetching", 0) as fetched:
        ensure = partial(ensure_local, workspace, advance=fetched)
        out = [] if args.paths else _left_out(workspace, paths)
        if args.force:
            _restore_manifests(repo, [path for path in paths if path not in out], ensure)
        manifests = {path: content for path in paths if (content := manifest_at(repo, path)) is not None}
        wanted = {path: Wanted(content) for path, content in manifests.items() if path not in out}
        with output.progress("writing", total_bytes(wanted.values())) as written:
            failures = populate_wanted(workspace, wanted, ensure, written)
    top = worktree_of(repo)
    gone = [path for path in paths if not os.path.lexists(top / path)]
    left = [path for path in wanted if manifest_at(repo, path) is not None]
    kept = {failure.path for failure in failures if isinstance(failure, KeptError)}
    done = [path for path in wanted if path not in {*left, *gone, *kept}]
    chosen = set() if wanted else set(present_paths(repo, args.paths))
    without = unattributed(repo, [path for path in repo.manifests(None) if path in chosen]) if chosen else []
    unread = [] if paths else _only_in_head(repo)
    output.result(
        {"written": done, "without_attribute": without, "left": left, "gone": gone, "not_fetched": out},
        [f"wrote {repo.shown(path)}" for path in done] or _nothing(left, gone, without, out, unread),
    )
    for failure in failures:
        output.error(failure)
    if unread:
        output.warning(
            f"the index is empty, but HEAD has {plural(len(unread), 'checkpoint')}",
            "git restore --source=HEAD --staged --worktree :/",
        )
    if without:
        output.warning(*advice(repo, without))
    if out:
        output.note(
            f"left {plural(len(out), 'manifest')}, as theta.fetch.include and theta.fetch.exclude say; "
            f"git theta checkout {repo.argument(out[0])} fetches and writes it"
        )
    for path in gone:
        output.warning(
            f"{repo.shown(path)} was deleted from the work tree", f"git theta checkout --force {repo.argument(path)}"
        )
    if left and not failures:
        output.warning(f"{repo.shown(left[0])} has merge conflicts", f"git theta resolve {repo.argument(left[0])}")
    return failures[0].exit_code if failures else 0


def _left_out(workspace: Workspace, paths: Sequence[str]) -> list[str]:
    chosen = fetch_filter(workspace.repo)
    excluded = {path for path in paths if chosen.excludes(path)}
    index = workspace.repo.manifests(None).items() if excluded else ()
    return chosen.left_out(workspace.store, ((path, manifest) for path, (_, manifest) in index if path in excluded))


def _only_in_head(repo: Repository) -> list[str]:
    """Return the checkpoints of HEAD if the index is empty, as a clone leaves it whose checkout failed."""
    head = head_of(repo)
    return list(repo.manifests(head)) if head and not repo.entries(None) else []


def _nothing(*unfinished: Sequence[str]) -> list[str]:
    return [] if any(unfinished) else ["all checkpoints are written"]


def _restore_manifests(repo: Repository, paths: Sequence[str], ensure: Callable[[Iterable[Manifest]], None]) -> None:
    """Replace changed files with the index's manifests, as an interrupted git checkout would leave them."""
    chosen = set(paths)
    # Parameters are fetched first: without them, a changed file would be replaced by a manifest that cannot be written.
    ensure(manifest for path, (_, manifest) in repo.manifests(None).items() if path in chosen)
    restore_manifests(repo, paths)
