"""What the remote lacks that the current branch is pushed to, as far as is known locally."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import ManifestError, ThetaError
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.git.revisions import head_of
from git_theta_ext.model.manifest_lines import ManifestLines
from git_theta_ext.model.tensor import Digest, is_digest
from git_theta_ext.operations.history.status import push_remote
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.workspace import Workspace

_SKELETON = b"skeleton "


@dataclass(frozen=True)
class NotPushed:
    """The data of the current branch's history that its remote lacks, as far as is known locally.

    Attributes:
        remote: Name of the remote that the branch is pushed to.
        versions: Number of manifests with tensors or skeletons that it lacks.
        tensors: Number of tensors and skeletons that it lacks.
        nowhere: Number of those that no other remote has.
    """

    remote: str
    versions: int = 0
    tensors: int = 0
    nowhere: int = 0


def unpushed(workspace: Workspace) -> NotPushed | None:
    """Return what the remote that the current branch is pushed to lacks; None if there is no remote or no commit.

    The result is as of the last push or fetch: no remote is contacted.

    Raises:
        RepositoryError: Git cannot walk the history.
    """
    repo = workspace.repo
    head, remote = head_of(repo), push_remote(repo)
    if head is None or remote is None:
        return None
    # Without a remote, the status is shown without these.
    from git_theta_ext.operations.sync.push_refs import boundary, tracked
    from git_theta_ext.operations.sync.remotes import fetch_address, push_addresses, remote_url
    from git_theta_ext.store.deltas.chains import ancestors
    from git_theta_ext.transfer.complete import read_complete, write_complete
    from git_theta_ext.transfer.remote_index import HeldDigests, known_index

    try:
        url = remote_url(workspace, remote, push_addresses(repo, remote)[0])
    except ThetaError:  # a push reports it
        history = _history(repo, head, tracked(repo, remote), lambda _: set())
        return NotPushed(remote, history.lacking, len(history.digests), len(history.digests))
    complete = read_complete(repo.theta_dir, url, boundary(repo))
    if head in complete.tips:
        return NotPushed(remote)
    index = known_index(repo.theta_dir, url)
    history = _history(repo, head, complete.tips, HeldDigests(index).among)
    stored = index.stored_as(history.digests)
    chosen = index.chosen(set(stored.values()))
    lacking = {digest for digest, held in stored.items() if held not in chosen}
    if not lacking:
        packs = {chosen[digest].pack for digest in ancestors(stored.values(), chosen)}
        write_complete(repo.theta_dir, url, complete.plus([head], packs))
        return NotPushed(remote)
    nowhere = set(lacking)
    for name in repo.config.git_remotes:
        with suppress(ThetaError):
            url = remote_url(workspace, name, fetch_address(repo, name))
            nowhere -= known_index(repo.theta_dir, url).held(nowhere)
    return NotPushed(remote, history.lacking, len(lacking), len(nowhere))


@dataclass(frozen=True)
class _History:
    """The tensors and skeletons of a history, and how many versions have some that are lacking."""

    digests: set[Digest]
    lacking: int


def _history(
    repo: Repository, head: str, without: Iterable[str], held: Callable[[Iterable[Digest]], set[Digest]]
) -> _History:
    """Read the manifests of a history, of each only the lines that no other had. A broken one is left to a push."""
    from git_theta_ext.operations.sync.outgoing import reachable

    infos = object_infos(repo, reachable(repo, [head], without))
    seen, absent = set[bytes](), set[bytes]()
    digests: set[Digest] = set()
    lacking = 0
    for _, data in manifest_blobs(repo, infos):
        with suppress(ManifestError):
            manifest = ManifestLines.of(data)
            lines = {manifest.head[-1], *manifest.parameters}
            new = {line: _digest(line) for line in lines - seen}
            there = held(new.values())
            seen |= lines
            digests.update(new.values())
            absent.update(line for line, digest in new.items() if digest not in there)
            lacking += not absent.isdisjoint(lines)
    return _History(digests, lacking)


def _digest(line: bytes) -> Digest:
    """Return the digest in the line of a skeleton or of a parameter."""
    word = line.split(b" ")[1] if line.startswith(_SKELETON) else line.rpartition(b"\t")[2]
    if not is_digest(text := word.decode("ascii", "replace")):
        raise ManifestError("expected a digest")
    return Digest(text)
