"""Upload parameters that a remote lacks.

Uploads what the history of the current branch needs, also from other remotes, and sends no commits. Use it if commits
were pushed without their parameters, if a remote lost some, or for a new or a second store. With --param or --since it
uploads a part of that first; the next git push or git theta push uploads the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.cli.commands.fetch import add_part, part_of
from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.comparison.words import count_tensors, human_bytes, plural
from git_theta_ext.errors import MissingError, UsageError
from git_theta_ext.operations.history.status import push_remote
from git_theta_ext.operations.sync.push import Push
from git_theta_ext.operations.sync.push_refs import history_updates
from git_theta_ext.operations.sync.remotes import push_addresses, remote_url
from git_theta_ext.operations.sync.verified_push import push_verified
from git_theta_ext.util.quoting import shell_word
from git_theta_ext.util.text import redacted

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from git_theta_ext.cli.output import Output
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.operations.sync.push import Pushed
    from git_theta_ext.operations.workspace import Workspace

GROUP = "share"
EXAMPLE = "git theta push --all origin"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "remote", metavar="REMOTE", nargs="?", help="git remote or its address; default: the one git push uses"
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="upload what all branches, tags and REMOTE's tracking branches need",
    )
    add_part(parser, since="only the versions since that commit, without it")
    parser.add_argument("-n", "--dry-run", action="store_true", help="show what would be uploaded, and upload nothing")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="also download what the remote has, check every byte, and upload damaged parameters again",
    )
    add_options(parser)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Upload parameters. The exit code is 7 if a remote lacks parameters that are nowhere else."""
    if args.dry_run and args.verify:
        raise UsageError("--dry-run and --verify cannot be used together", hint="git theta push --verify")
    repo = workspace.repo
    remote = args.remote or push_remote(repo)
    if remote is None:
        raise UsageError("there is no remote to push to", hint="git remote add origin URL, or git theta push URL")
    updates = history_updates(repo, remote, every=args.all)
    if not updates:
        raise UsageError("there is no commit to push", hint="git commit, or git theta push --all")
    part = part_of(args) if args.param or args.since is not None else None
    pushes = {
        remote_url(workspace, remote, at): Push(workspace, remote, at, updates, part)
        for at in push_addresses(repo, remote)
    }
    remotes: list[dict[str, Any]] = []
    lines: list[str] = []
    notes: list[str] = []
    lost: list[Digest] = []
    skeletons: set[Digest] = set()
    for url, push in pushes.items():
        if args.dry_run:
            done = push.look(strict=False)
        else:
            with output.progress("uploading parameters", 0) as advance:
                done = push_verified(push, advance=advance) if args.verify else push.run(strict=False, advance=advance)
        remotes.append(_data(push, url, done, dry=args.dry_run))
        lines += _lines(remotes[-1], done, dry=args.dry_run)
        notes += _left(remotes[-1], done, every=args.all)
        lost += done.lost
        skeletons |= done.needed.skeletons
    output.result({"remotes": remotes}, lines)
    for note in notes:
        output.note(note)
    if lost:
        output.warning(
            f"{count_tensors(lost, skeletons)} are neither in the local store nor on a remote",
            f"run git theta push --all {shell_word(redacted(remote))} in a clone that has them; "
            "git theta fsck names their files",
        )
    return MissingError.exit_code if lost else 0


def _data(push: Push, url: str, done: Pushed, *, dry: bool) -> dict[str, Any]:
    return {
        "remote": push.shown,
        "url": url,
        "dry_run": dry,
        "lacking": len(done.lacking),
        "lost": len(done.lost),
        "raw_bytes": done.raw,
        "packs": done.packs,
        "bytes": done.nbytes,
        "left": len(done.left),
        "left_raw_bytes": sum(done.left.values()),
        "partial": push.part is not None,
    }


def _left(data: Mapping[str, Any], done: Pushed, *, every: bool) -> Iterator[str]:
    if done.left:
        remote = shell_word(data["remote"])
        command = f"git theta push --all {remote}" if every else f"git theta push {remote}"
        what = f"{count_tensors(done.left, done.needed.skeletons)} of {human_bytes(data['left_raw_bytes'])}"
        lacks = "would still lack" if data["dry_run"] else "still lacks"
        yield f"{_where(data)} {lacks} {what} that were not selected; to upload them: {command}"


def _where(data: Mapping[str, Any]) -> str:
    return f"{data['remote']} ({data['url']})"


def _lines(data: Mapping[str, Any], done: Pushed, *, dry: bool) -> Iterator[str]:
    where, skeletons = _where(data), done.needed.skeletons
    if not done.lacking:
        yield f"{where} has everything that was selected" if data["partial"] else f"{where} has everything"
        return
    lacking = count_tensors(done.lacking, skeletons)
    what = f"{count_tensors(done.uploaded, skeletons)} of {human_bytes(data['raw_bytes'])}"
    if dry:
        size = f"about {human_bytes(data['bytes'])}"
        yield f"{where} lacks {lacking}; {what} would be uploaded as {size}"
    else:
        size = f"{human_bytes(data['bytes'])} in {plural(data['packs'], 'pack')}"
        yield f"{where} lacked {lacking}; uploaded {what} as {size}"
