"""Download parameters and write the checkpoints that have all of theirs.

The same as git theta fetch, and then git theta checkout without downloading more. Commits are pulled by git pull, which
also downloads their parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.cli.commands.fetch import add_selection, download
from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.comparison.words import plural
from git_theta_ext.errors import MissingError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.pathspecs import present_paths
from git_theta_ext.operations.filter.populate import Wanted, manifest_at, populate_wanted, total_bytes

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from git_theta_ext.cli.output import Output
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.operations.workspace import Workspace

GROUP = "share"
EXAMPLE = "git theta pull origin"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_selection(parser)
    add_options(parser)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Download parameters and write checkpoints. The exit code is that of the first error of either."""
    fetched = download(output, workspace, args)
    repo = workspace.repo
    manifests = {path: manifest_at(repo, path) for path in theta_paths(repo.run, present_paths(repo, []))}
    wanted = {path: Wanted(content) for path, content in manifests.items() if content is not None}

    def ensure(needed: Iterable[Manifest]) -> None:
        absent = workspace.store.touch_and_find_missing(digest for one in needed for digest, _ in one.digests())
        if absent:
            raise MissingError(f"{plural(len(absent), 'tensor')} not selected", hint="git theta pull")

    failures = []
    if not args.dry_run:
        with output.progress("writing", total_bytes(wanted.values())) as advance:
            # A checkpoint that lacks parameters that were not selected stays a manifest.
            failures = [
                e for e in populate_wanted(workspace, wanted, ensure, advance) if not isinstance(e, MissingError)
            ]
    left = [path for path in wanted if manifest_at(repo, path) is not None]
    written = [path for path in wanted if path not in left]
    output.result(
        {**fetched.data, "written": written, "left": left},
        [fetched.words, *(f"wrote {repo.shown(path)}" for path in written)],
    )
    if fetched.lack is not None:
        raise fetched.lack
    for failure in failures:
        output.error(failure)
    if left and not failures and not args.dry_run:
        output.note(
            f"left {plural(len(left), 'manifest')} without all parameters, or with conflicts; "
            f"git theta checkout {repo.argument(left[0])} tells more, or fetches the rest"
        )
    return failures[0].exit_code if failures else 0
