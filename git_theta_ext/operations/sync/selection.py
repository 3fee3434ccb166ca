"""Select the tensors of some versions of the checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.errors import ThetaError, UsageError
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.git.revisions import commit_id
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.operations.sync.outgoing import reachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.tensor import Digest


@dataclass(frozen=True)
class Selection:
    """Tensors of some versions of the checkpoints.

    Attributes:
        manifests: Number of different manifests, each a version of a checkpoint.
        sizes: Size in bytes of the selected tensors, and of the skeletons if all parameters are selected, by digest.
    """

    manifests: int
    sizes: Mapping[Digest, int]


def select(
    repo: Repository, revs: Sequence[str], parameters: Sequence[str] = (), *, since: str | None, every: bool
) -> Selection:
    """Select tensors by version and by parameter. Broken manifests of earlier versions are left out.

    Args:
        repo: The repository.
        revs: The versions: commits.
        parameters: Names or globs of parameters; none for all.
        since: Also all versions that lead to ``revs`` from this one, which is left out.
        every: All versions in the history of all refs instead.

    Raises:
        RepositoryError: There is no such commit.
        UsageError: No parameter of these versions has such a name.
    """
    manifests = list(_manifests(repo, revs, since, every=every))
    sizes: dict[Digest, int] = {}
    unmatched = set(parameters)
    for manifest in manifests:
        if not parameters:
            sizes |= manifest.digests()
            continue
        for name, parameter in manifest.parameters.items():
            matching = {pattern for pattern in parameters if fnmatchcase(name, pattern)}
            unmatched -= matching
            if matching:
                sizes[parameter.digest] = parameter.spec.nbytes
    if unmatched:
        raise UsageError(
            f"no parameter is named {min(unmatched)}", hint=f"git theta ls-files --params {quote(revs[0])}"
        )
    return Selection(len(manifests), sizes)


def _manifests(repo: Repository, revs: Sequence[str], since: str | None, *, every: bool) -> Iterator[Manifest]:
    if not every and since is None:
        versions = {oid: manifest for rev in revs for oid, manifest in repo.manifests(rev).values()}
        yield from versions.values()
        return
    if every:
        tips = repo.run("for-each-ref", "--format=%(objectname)").decode().split()
    else:
        tips = [commit_id(repo, rev) for rev in revs]
    before = [] if since is None else [commit_id(repo, since)]
    for _, data in manifest_blobs(repo, object_infos(repo, reachable(repo, tips, before))):
        manifest = _parsed(data)
        if manifest is not None:
            yield manifest


def _parsed(data: bytes) -> Manifest | None:
    try:
        return Manifest.parse(data)
    except ThetaError:  # git theta fsck reports it
        return None
