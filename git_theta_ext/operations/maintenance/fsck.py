"""Check a repository: its manifests, attributes, packs and tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import ManifestError
from git_theta_ext.git.commit_attributes import theta_paths_at
from git_theta_ext.git.install import configured
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.git.revisions import head_of
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.operations.distribution import workers_if_set
from git_theta_ext.operations.history.versions import versions
from git_theta_ext.operations.maintenance.raw_checkpoints import RAW, raw_blobs
from git_theta_ext.operations.maintenance.worktree_restore import restore_from_worktrees
from git_theta_ext.store.maintenance.fsck import (
    Problem,
    check_packs,
    check_tensors,
    known_bad,
    specs_of,
    stored_specs,
)
from git_theta_ext.util.files import total_bytes
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.transfer.elsewhere import Remotes


def reachable_manifests(repo: Repository) -> tuple[dict[str, Manifest], dict[str, str], list[Problem]]:
    """Return every manifest that is reachable from a ref, a reflog or an index, and its path, both by a readable name.

    The name is the path and the first commit that has the manifest there.
    """
    manifests: dict[str, Manifest] = {}
    paths: dict[str, str] = {}
    seen = set()
    for version in versions(repo):
        seen.add(version.oid)
        commit = "staged" if version.commit is None else version.commit[:12]
        name = f"{shown_path(version.path)} ({commit})"
        manifests[name], paths[name] = version.manifest, version.path
    others = {oid: path for oid, path in listed_objects(repo) if oid not in seen}
    problems: list[Problem] = []
    # Manifests that are not valid, and those that only the index of another work tree has.
    for oid, data in manifest_blobs(repo, object_infos(repo, others)):
        name = f"{shown_path(others[oid])} (object {oid[:12]})"
        try:
            manifests[name], paths[name] = Manifest.parse(data), others[oid]
        except ManifestError as error:
            problems.append(Problem("corrupt", name, error.message))
    return manifests, paths, problems


def listed_objects(repo: Repository) -> Iterator[tuple[str, str]]:
    """Yield id and path of each file and directory that is reachable from a ref, a reflog or an index.

    Raises:
        RepositoryError: Git lacks an object.
    """
    lines = repo.run("rev-list", "--objects", "--missing=allow-promisor", "--all", "--reflog", "--indexed-objects")
    for line in lines.decode(errors="surrogateescape").split("\n")[:-1]:
        oid, _, path = line.partition(" ")
        if path:
            yield oid, path


def check_attributes(repo: Repository) -> list[Problem]:
    """Report manifests that contradict the attributes of the current commit, and missing configuration of git."""
    head = head_of(repo)
    if head is None:
        return []
    files = {entry.path: entry.oid for entry in repo.entries(head) if entry.regular}
    tracked = theta_paths_at(repo, head, files)
    problems = []
    if tracked and not configured(repo):
        problems.append(Problem("config", "filter.theta.process", "is not set; git theta install"))
    infos = object_infos(repo, files.values())
    manifests = {oid for oid, _ in manifest_blobs(repo, infos)}
    raw = raw_blobs(repo, {files[path] for path in tracked})
    problems += [Problem("raw", f"HEAD:{shown_path(path)}", RAW) for path in tracked if files[path] in raw]
    message = "the committed .gitattributes do not track this manifest, so clones get its text"
    bare = [path for path, oid in files.items() if oid in manifests and path not in tracked]
    return problems + [Problem("attribute", f"HEAD:{shown_path(path)}", message) for path in bare]


def check_store(
    workspace: Workspace,
    remotes: Remotes,
    manifests: Mapping[str, Manifest],
    *,
    full: bool,
    packs: Sequence[Problem] | None = None,
) -> list[Problem]:
    """Check packs and manifests, and with ``full`` every tensor, in jobs if ``theta.cluster`` is set.

    Args:
        workspace: The repository and its store.
        remotes: The remotes that may hold what the store lacks.
        manifests: All manifests, by a readable name.
        full: Whether to decode every tensor.
        packs: The problems of packs, if these were checked just now.

    Raises:
        ClusterError: The workers cannot run a job.
        ConfigError: ``theta.cluster`` is not valid.
    """
    store, reporter = workspace.store, workspace.reporter
    with workers_if_set(workspace) as workers:
        if packs is None:
            with reporter.progress("checking packs", total_bytes(path for _, path in store.pack_files())) as advance:
                packs = list(check_packs(store, advance, workers=workers))
        return _problems(workspace, remotes, manifests, packs, full=full)


def _problems(
    workspace: Workspace,
    remotes: Remotes,
    manifests: Mapping[str, Manifest],
    packs: Sequence[Problem],
    *,
    full: bool,
) -> list[Problem]:
    store, reporter = workspace.store, workspace.reporter
    problems = list(packs)
    with reporter.progress("checking manifests", sum(n for m in manifests.values() for _, n in m.digests())) as advance:
        problems += remotes.problems(store, manifests, advance)
    if not full:
        damaged = {problem.pack for problem in problems}
        problems += [problem for problem in known_bad(store) if problem.pack not in damaged]
    else:
        wanted = {**stored_specs(store), **specs_of(manifests.values())}
        alone = wanted.keys() - store.index.parts(wanted).keys()
        with reporter.progress("decoding", sum(wanted[digest].nbytes for digest in alone)) as advance:
            damaged = {problem.pack for problem in problems}
            decoded = check_tensors(store, wanted, advance)
            # The damage of the pack is reported already.
            problems += [problem for _, problem in decoded if not problem.pack or problem.pack not in damaged]
    return problems


def restore_lost(
    workspace: Workspace, manifests: Mapping[str, Manifest], paths: Mapping[str, str], lost: AbstractSet[Digest]
) -> dict[Digest, str]:
    """Store lost tensors again from files in work trees, at the paths of the manifests that name them."""
    lacking = (name for name, manifest in manifests.items() if any(digest in lost for digest, _ in manifest.digests()))
    return restore_from_worktrees(workspace, {paths[name] for name in lacking}, lost) if lost else {}
