"""Find the checkpoints that a merge of several branches has to merge, and read their versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.git.commit_attributes import theta_paths_at
from git_theta_ext.git.merge_tree import renames
from git_theta_ext.git.objects import manifest_blobs, object_infos
from git_theta_ext.operations.merge.versions import read_version
from git_theta_ext.records import dataclass
from git_theta_ext.util.quoting import shown_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.git.entries import TreeEntry
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.rules.rules import Rules
    from git_theta_ext.model.manifest import Manifest


@dataclass(frozen=True)
class CheckpointVersions:
    """A checkpoint that several branches changed.

    Attributes:
        merged: Its path, and the version that git would keep.
        base: The common ancestor's version, or None.
        sides: The current branch's version, and those of the branches that are merged. A branch that deleted it counts
            with the ancestor's version, because git decides on files; without an ancestor it is left out.
        heads: The commit of each side.
        merge_heads: All merged commits, also those of branches that are left out.
        ancestor: The common ancestor, or None.
    """

    merged: TreeEntry
    base: TreeEntry | None
    sides: tuple[TreeEntry, ...]
    heads: tuple[str, ...]
    merge_heads: tuple[str, ...]
    ancestor: str | None = None

    @property
    def revisions(self) -> tuple[str, ...]:
        """The commits that are merged, and their common ancestor if there is one."""
        return self.heads if self.ancestor is None else (*self.heads, self.ancestor)

    def rules_of_sides(self, rules: Rules) -> Rules:
        """Return the rules of the merge with the weights of the sides."""
        numbers = [self.merge_heads.index(head) for head in self.heads]
        return rules.of_sides(numbers, len(self.merge_heads))


def checkpoints(repo: Repository, base: str | None, heads: Sequence[str], tree: str) -> list[CheckpointVersions]:
    """Find the checkpoints in a merged tree that have several versions to merge.

    Renamed files are followed from the common ancestor.

    Args:
        repo: The repository.
        base: The common ancestor, or None.
        heads: The merged commits.
        tree: The merged tree.

    Raises:
        RepositoryError: There is no such commit.
    """
    before = {} if base is None else _files(repo, base)
    sides = [(_files(repo, head), {} if base is None else renames(repo, base, head)) for head in heads]
    origins = {new: old for _, moved in sides for old, new in moved.items()}
    candidates = []
    for path, entry in _files(repo, tree).items():
        origin = path if path in before else origins.get(path, path)
        ancestor = before.get(origin)
        versions = [files.get(moved.get(origin, origin), ancestor) for files, moved in sides]
        by_head = {head: version for head, version in zip(heads, versions, strict=True) if version is not None}
        changed = {version.oid for version in by_head.values()} - {"" if ancestor is None else ancestor.oid}
        if len(changed) > 1:
            sides_of_file = tuple(by_head.values()), tuple(by_head)
            candidates.append(CheckpointVersions(entry, ancestor, *sides_of_file, tuple(heads), base))
    tracked = set(theta_paths_at(repo, tree, [candidate.merged.path for candidate in candidates]))
    return [candidate for candidate in candidates if candidate.merged.path in tracked]


def read_manifests(repo: Repository, versions: CheckpointVersions) -> tuple[Manifest | None, list[Manifest]]:
    """Return the common ancestor's manifest and those of the sides.

    Raises:
        ManifestError: A version is not a valid manifest, or a side has conflicts.
    """
    path = versions.merged.path
    base, sides = versions.base, versions.sides
    oids = {entry.oid for entry in (base, *sides) if entry is not None}
    content = dict(manifest_blobs(repo, object_infos(repo, oids)))
    manifests = [
        read_version(content.get(side.oid, b""), f"{shown_path(path)}: version {side.oid[:12]}") for side in sides
    ]
    if base is None:
        return None, manifests
    label = f"{shown_path(path)}: the common ancestor's version"
    return read_version(content.get(base.oid, b""), label, allow_conflicts=True), manifests


def _files(repo: Repository, rev: str) -> dict[str, TreeEntry]:
    return {entry.path: entry for entry in repo.entries(rev) if entry.regular}
