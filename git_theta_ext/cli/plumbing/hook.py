"""Run a hook; git runs this."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from git_theta_ext.cli.output import output_to_git
from git_theta_ext.comparison.words import count_tensors, human_bytes, plural
from git_theta_ext.errors import ThetaError, UsageError
from git_theta_ext.git.caller import pushes_dry, wants_quiet
from git_theta_ext.git.repository import Repository
from git_theta_ext.util.quoting import shell_word, shown_path

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from git_theta_ext.cli.output import Output
    from git_theta_ext.operations.sync.push import Push, Pushed

EXAMPLE = 'git theta hook pre-push "$@"     # in .git/hooks/pre-push'

_SHOWN = 10  # files


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", choices=sorted(_HOOKS), help="name of the hook")
    parser.add_argument("words", metavar="ARGUMENT", nargs="*", help="arguments that git passes to the hook")


def given(words: Sequence[str]) -> SimpleNamespace | None:
    """Return the arguments that git gives."""
    return SimpleNamespace(name=words[0], words=words[1:]) if words and words[0] in _HOOKS else None


def run(args: argparse.Namespace) -> int:
    """Run the hook. A failure stops what git is about to do."""
    return _HOOKS[args.name](output_to_git(bars=not wants_quiet(os.getppid())), args.words)


def _push(output: Output, words: Sequence[str]) -> int:
    """Upload what the pushed commits need."""
    # A merge starts the other hook, which needs none of this.
    from git_theta_ext.operations.sync.outgoing import parse_updates
    from git_theta_ext.operations.sync.push import Push
    from git_theta_ext.operations.sync.push_refs import held_updates
    from git_theta_ext.operations.workspace import Workspace

    if len(words) != 2:  # noqa: PLR2004 - githooks(5): name of the remote, and its address
        raise UsageError(f"pre-push takes a remote and its address, not {len(words)} words", hint=EXAMPLE)
    updates = parse_updates(sys.stdin.buffer.read().decode(errors="surrogateescape"))
    with Workspace.discover(output) as workspace:
        if not updates and not workspace.repo.theta_dir.is_dir():
            return 0  # nothing is sent, and nothing was ever stored in this repository
        pushed = tuple(updates) or held_updates(workspace.repo, *words)
        return _upload(output, Push(workspace, words[0], words[1], pushed), strict=bool(updates))


def _upload(output: Output, push: Push, *, strict: bool) -> int:
    if pushes_dry(os.getppid()):
        _say_dry(output, push, push.look(strict=strict))
        return 0
    try:
        with output.progress("uploading parameters", 0) as advance:
            done = push.run(strict=strict, advance=advance)
    except ThetaError as error:
        if strict:
            raise
        # Git sends nothing, so there is nothing to stop.
        output.warning(f"cannot check that {push.shown} has all parameters: {error.message}", error.hint)
        return 0
    if done.packs and output.bars:
        size = f"{human_bytes(done.nbytes)} in {plural(done.packs, 'pack')}"
        what = f"{count_tensors(done.uploaded, done.needed.skeletons)} of {human_bytes(done.raw)}"
        output.note(f"uploaded {what} to {push.shown} as {size}")
    _warn(output, push, done)
    return 0


def _warn(output: Output, push: Push, done: Pushed) -> None:
    _say_locks(output, push, done)
    for path in done.needed.conflicted:
        output.warning(
            f"{shown_path(path)}: the pushed manifest has merge conflicts",
            f"git theta resolve {push.repo.argument(path)}",
        )
    if done.failure is not None:
        message = f"nothing is uploaded; manifests on {push.shown} already refer to all these parameters"
        output.warning(f"{message}: {done.failure.message}", done.failure.hint)
    if done.lost:
        output.warning(
            f"manifests on {push.shown} refer to {count_tensors(done.lost, done.needed.skeletons)} that no remote has",
            f"run git theta push --all {shell_word(push.shown)} in a clone that has them",
        )


def _say_locks(output: Output, push: Push, done: Pushed) -> None:
    if (failure := done.locks.failure) is not None:
        output.warning(f"cannot check whether others have locked pushed files: {failure.message}", failure.hint)
    if done.locks.ours:
        paths = " ".join(push.repo.argument(path) for path in done.locks.ours[:_SHOWN])
        output.note(f"you have locked pushed files; to unlock them: git theta unlock {paths}")


def _say_dry(output: Output, push: Push, seen: Pushed) -> None:
    _say_locks(output, push, seen)
    tensors = f"{count_tensors(seen.uploaded, seen.needed.skeletons)} of {human_bytes(seen.raw)}"
    size = f" as about {human_bytes(seen.nbytes)}" if seen.nbytes else ""
    words = f"{tensors} would be uploaded to {push.shown}{size}"
    output.note(f"dry run: {words if seen.lacking else f'no parameters need to be uploaded to {push.shown}'}")
    if seen.lost:
        lost = count_tensors(seen.lost, seen.needed.skeletons)
        output.warning(f"{lost} of them are neither in the local store nor on a remote")


def _record(output: Output, words: Sequence[str]) -> int:
    """Record in a merge's message how models were merged. A failure is only a warning."""
    from git_theta_ext.operations.merge.record import attach

    try:
        for path in attach(Repository.discover(), Path(*words[:1]), words[1:]):
            output.warning(
                f"{shown_path(path)}: the commit does not record how it was merged, as the rules are too long"
            )
    except ThetaError as error:
        output.warning(f"the commit does not record how models were merged: {error.message}")
    return 0


_HOOKS = {"pre-push": _push, "prepare-commit-msg": _record}
