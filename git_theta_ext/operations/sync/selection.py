"""Select the tensors of some versions of the checkpoints."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from git_theta_ext.errors import ThetaError, UsageError
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.git.revisions import commit_id
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.operations.sync.outgoing import reachable
from git_theta_ext.records import dataclass
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.tensor import Digest


@dataclass(frozen=True)
class Part:
    """A part of the tensors of some versions.

    Attributes:
        parameters: Names or globs of parameters; none for all.
        since: A commit. The versions in its history are left out.
    """

    parameters: tuple[str, ...] = ()
    since: str | None = None


@dataclass(frozen=True)
class Selection:
    """Tensors of some versions of the checkpoints.

    Attributes:
        manifests: Number of different manifests, each a version of a checkpoint.
        sizes: Size in bytes of the selected tensors, and of the skeletons if all parameters are selected, by digest.
        skeletons: Those of ``sizes`` that are skeletons.
    """

    manifests: int
    sizes: Mapping[Digest, int]
    skeletons: AbstractSet[Digest]


def select(repo: Repository, revs: Sequence[str], part: Part, *, every: bool) -> Selection:
    """Select tensors of commits; of all versions that lead to them if the part begins at a commit.

    Args:
        repo: The repository.
        revs: The versions: commits.
        part: The tensors to select.
        every: All versions in the history of all refs instead.

    Raises:
        RepositoryError: There is no such commit.
        UsageError: No parameter of these versions has such a name.
    """
    if every:
        return select_history(repo, repo.run("for-each-ref", "--format=%(objectname)").decode().split(), part)
    if part.since is not None:
        return select_history(repo, [commit_id(repo, rev) for rev in revs], part)
    versions = {oid: manifest for rev in revs for oid, manifest in repo.manifests(rev).values()}
    return _selected(versions.values(), part.parameters, revs[0])


def select_history(repo: Repository, tips: Sequence[str], part: Part) -> Selection:
    """Select tensors of all versions in the history of commits. Broken manifests are left out.

    Raises:
        RepositoryError: There is no such commit.
        UsageError: No parameter of these versions has such a name.
    """
    before = [] if part.since is None else [commit_id(repo, part.since)]
    blobs = manifest_blobs(repo, object_infos(repo, reachable(repo, tips, before)))
    parsed = (_parsed(data) for _, data in blobs)
    return _selected((manifest for manifest in parsed if manifest is not None), part.parameters, "HEAD")


def _selected(manifests: Iterable[Manifest], parameters: Sequence[str], rev: str) -> Selection:
    sizes: dict[Digest, int] = {}
    skeletons: set[Digest] = set()
    unmatched = set(parameters)
    count = 0
    for manifest in manifests:
        count += 1
        if not parameters:
            sizes |= manifest.digests()
            skeletons.add(manifest.skeleton.digest)
            continue
        for name, parameter in manifest.parameters.items():
            matching = {pattern for pattern in parameters if fnmatchcase(name, pattern)}
            unmatched -= matching
            if matching:
                sizes[parameter.digest] = parameter.spec.nbytes
    if unmatched:
        raise UsageError(
            f"no parameter is named {min(unmatched)}", hint=f"git theta ls-files --params {shell_word(rev)}"
        )
    return Selection(count, sizes, skeletons)


def _parsed(data: bytes) -> Manifest | None:
    try:
        return Manifest.parse(data)
    except ThetaError:  # git theta fsck reports it
        return None
