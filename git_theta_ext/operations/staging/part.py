"""Bring parameters of another version into the checkpoints of the index and the work tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError, UsageError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.entries import TreeEntry, update_index
from git_theta_ext.git.objects import write_blob
from git_theta_ext.operations.filter.populate import Wanted, populate_wanted, restore_manifests
from git_theta_ext.operations.history.status import in_worktree
from git_theta_ext.operations.sync.fetch import ensure_local
from git_theta_ext.records import dataclass, replace
from git_theta_ext.util.quoting import shell_word
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_theta_ext.errors import ThetaError
    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.model_version import ModelVersion
    from git_theta_ext.operations.workspace import Workspace


@dataclass(frozen=True)
class Part:
    """Parameters of another version for the files of a model.

    Attributes:
        files: Path to the manifest of each file with the values of the other version.
        taken: The parameters whose value changes, sorted.
        same: Number of chosen parameters that have that value already.
    """

    files: dict[str, Manifest]
    taken: tuple[str, ...]
    same: int

    @property
    def nbytes(self) -> int:
        """The size of the files' parameters, which are all written."""
        return sum(p.spec.nbytes for manifest in self.files.values() for p in manifest.parameters.values())


def part_of(source: ModelVersion, target: ModelVersion, chosen: Callable[[str], bool], hint: str) -> Part:
    """Put parameters of one version into another.

    Args:
        source: The version that has the values.
        target: The version that gets these.
        chosen: Returns whether a parameter is taken, by its name.
        hint: The command that lists the parameters of ``source``.

    Raises:
        UsageError: No parameter is chosen, or ``target`` does not have it with the same element type and shape.
        MergeError: One of the versions has conflicts.
    """
    if any(shard.conflicted for version in (source, target) for shard in version.shards.values()):
        raise MergeError("a version with conflicts cannot be divided", hint="git theta resolve")
    names = [name for name in source.parameters if chosen(name)]
    if not names or "opaque" in (source.format, target.format):
        raise UsageError("no parameter matches", hint=hint)
    other = [n for n in names if n not in target.parameters or target.parameters[n].spec != source.parameters[n].spec]
    if other:
        raise UsageError(f"the file has no parameters {shortlist(other)} of that type and shape", hint=hint)
    taken = [name for name in names if source.parameters[name] != target.parameters[name]]
    files: dict[str, Manifest] = {}
    for name in taken:
        path = target.places[name]
        manifest = files.get(path, target.in_files(path))
        in_file = target.names_in_file(path).get(name, name)
        files[path] = replace(manifest, parameters={**manifest.parameters, in_file: source.parameters[name]})
    return Part(files, tuple(sorted(taken)), len(names) - len(taken))


def write_part(workspace: Workspace, part: Part, advance: Callable[[int], None]) -> list[ThetaError]:
    """Stage the files of a part, and write these.

    Returns:
        Why files could not be written.

    Raises:
        UsageError: A file has changes that are not staged.
        MissingError: Values are neither here nor on a remote; nothing has changed then.
    """
    repo = workspace.repo
    index = {entry.path: entry for entry in repo.entries(None) if entry.path in part.files and not entry.stage}
    staged = repo.manifests(None)
    formats = theta_paths(repo.run, part.files)
    if missing := sorted(part.files.keys() - formats):
        raise UsageError(
            f"{repo.shown(missing[0])} has no attribute filter=theta", hint=f"git theta track {shell_word(missing[0])}"
        )
    for path, file in in_worktree(workspace, formats, advance).items():
        if file.manifest != staged[path][1]:
            raise UsageError(f"{repo.shown(path)} differs from the index", hint=f"git theta add {repo.argument(path)}")
    ensure_local(workspace, part.files.values())
    texts = {path: manifest.to_bytes() for path, manifest in part.files.items()}
    update_index(repo.run, [TreeEntry(path, write_blob(repo, text), index[path].mode) for path, text in texts.items()])
    restore_manifests(repo, list(texts))
    wanted = {path: Wanted(text) for path, text in texts.items()}
    return list(populate_wanted(workspace, wanted, lambda manifests: ensure_local(workspace, manifests), advance))
