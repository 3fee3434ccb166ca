"""Download parameters of other versions, or some parameters only.

Checkouts download what they need by themselves. Fetch in advance to work without a network, or fetch a few parameters
of a model that is not checked out. Writes no files: git theta pull does. git theta prefetch is the same command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.cli.opening import in_workspace
from git_theta_ext.cli.output import add_options
from git_theta_ext.comparison.words import count_tensors, human_bytes, plural
from git_theta_ext.git.revisions import find_object
from git_theta_ext.operations.sync.remotes import fetch_address, open_remote, open_remotes
from git_theta_ext.operations.sync.selection import Part, select
from git_theta_ext.records import dataclass
from git_theta_ext.transfer.offers import Offers
from git_theta_ext.transfer.sync import fetch_offered

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from git_theta_ext.cli.output import Output
    from git_theta_ext.errors import ThetaError
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.transfer.remote_index import OpenedRemote

GROUP = "share"
EXAMPLE = "git theta fetch --param 'embeddings.*' origin v2"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_selection(parser)
    add_options(parser)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what to download from where."""
    parser.add_argument(
        "words",
        metavar="REMOTE REV",
        nargs="*",
        help="git remote or its address, then commits; default: all remotes, and HEAD",
    )
    parser.add_argument("--all", action="store_true", help="all versions in the history of all refs")
    add_part(parser, since="also all versions since that commit, without it")
    parser.add_argument("-n", "--dry-run", action="store_true", help="show what would be downloaded")


def add_part(parser: argparse.ArgumentParser, *, since: str) -> None:
    """Add the arguments that ``part_of`` reads.

    Args:
        parser: The parser of a command.
        since: The help of ``--since``.
    """
    parser.add_argument(
        "--param", metavar="GLOB", action="append", default=[], help="only parameters of that name; can be repeated"
    )
    parser.add_argument("--since", metavar="REV", help=since)


def part_of(args: argparse.Namespace) -> Part:
    """Return the part of the tensors that the arguments select."""
    return Part(tuple(args.param), args.since)


@in_workspace
def run(output: Output, workspace: Workspace, args: argparse.Namespace) -> int:
    """Download parameters. The exit code is 7 if no remote has some, 9 if a remote cannot be reached."""
    fetched = download(output, workspace, args)
    output.result(fetched.data, [fetched.words])
    if fetched.lack is not None:
        raise fetched.lack
    return 0


@dataclass(frozen=True)
class Downloaded:
    """What was downloaded, or would be.

    Attributes:
        data: For programs.
        words: For people.
        lack: The error that tells what no remote has, after ``--dry-run``.
    """

    data: dict[str, Any]
    words: str
    lack: ThetaError | None


def download(output: Output, workspace: Workspace, args: argparse.Namespace) -> Downloaded:
    """Download what the arguments select.

    Raises:
        MissingError: No remote has some of it.
        RemoteError: A remote cannot be reached.
    """
    store = workspace.store
    remote, revs = _split(workspace, args.words)
    selection = select(workspace.repo, revs or ["HEAD"], part_of(args), every=args.all)
    missing = store.touch_and_find_missing(selection.sizes)
    offers = Offers(store, _opened(workspace, remote) if missing else ())
    packs, complete = offers.choose(missing)
    raw = sum(selection.sizes[digest] for digest in missing)
    data = {
        "manifests": selection.manifests,
        "tensors": len(selection.sizes),
        "missing": len(missing),
        "raw_bytes": raw,
        "packs": len(packs),
        "bytes": sum(one.nbytes for one in packs.values()),
        "dry_run": args.dry_run,
    }
    if not args.dry_run and missing:
        with output.progress("fetching parameters") as advance:
            fetched = fetch_offered(store, offers, missing, advance)
        data |= {"packs": fetched.packs, "bytes": fetched.nbytes}
    size = f"{count_tensors(missing, selection.skeletons)} of {human_bytes(raw)} as {human_bytes(data['bytes'])}"
    words = f"{'would fetch' if args.dry_run else 'fetched'} {size} from {plural(data['packs'], 'pack')}"
    lacking = args.dry_run and missing and not complete
    lack = offers.lack(missing, len(selection.sizes)) if lacking else None
    return Downloaded(data, words if missing else "nothing is missing", lack)


def _split(workspace: Workspace, words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Split the arguments into a remote, if the first one is no commit, and commits."""
    repo = workspace.repo
    if not words:
        return None, []
    if words[0] not in repo.config.git_remotes and find_object(repo, f"{words[0]}^{{commit}}") is not None:
        return None, list(words)
    return words[0], list(words[1:])


def _opened(workspace: Workspace, remote: str | None) -> list[OpenedRemote]:
    if remote is None:
        return open_remotes(workspace)
    return [open_remote(workspace, remote, fetch_address(workspace.repo, remote))]
