"""Replace manifests in the work tree with their checkpoints, so that git sees no change."""

from __future__ import annotations

import os
import stat
from contextlib import nullcontext, suppress
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.draft import finished_draft, remove_drafts
from git_theta_ext.checkpoint.populate import WORTH, populate
from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.errors import ChangedError, KeptError, ManifestError, MissingError, RemoteError, ThetaError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.drafts import drafts_of_caller
from git_theta_ext.git.process import SKIP_SMUDGE
from git_theta_ext.model.manifest import MAX_MANIFEST, Manifest, is_manifest
from git_theta_ext.operations.distribution import workers_if_set
from git_theta_ext.operations.filter.pending import change_pending, read_pending
from git_theta_ext.operations.filter.written_files import WrittenFiles, finish_written_files
from git_theta_ext.records import dataclass
from git_theta_ext.util.quoting import shell_word, shown_path
from git_theta_ext.util.text import shortlist
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from git_theta_ext.cluster.jobs import Workers
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.filter.smudge import Supply
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.store import Store

_SHOWN = 3
"""Paths in a message."""

_CLOCK_NS = 20_000_000
"""The clock of file times may be this far behind the system clock."""

_COARSE_NS = 2_100_000_000
"""The same for file systems whose times are whole seconds, or even seconds on FAT."""


@dataclass(frozen=True)
class Wanted:
    """A checkpoint to be written in place of its manifest.

    Attributes:
        content: The manifest.
        since_ns: The manifest must have been written after this time, in ns since the epoch: git also requests
            manifests that it does not write, for a diff or an archive. 0 if the checkpoint is known to be wanted.
    """

    content: bytes
    since_ns: int = 0

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest, parsed once.

        Raises:
            ManifestError: It is not valid.
        """
        return Manifest.parse(self.content)


def manifest_at(repo: Repository, path: str) -> bytes | None:
    """Return the manifest that is in the work tree in place of a checkpoint, or None."""
    full = _inside(repo, path)
    if full is None:
        return None
    with suppress(OSError):
        status = full.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_MANIFEST:
            with full.open("rb") as file:
                head = file.read(64)
                if is_manifest(head):
                    return head + file.read()
    return None


def restore_manifests(repo: Repository, paths: Iterable[str]) -> None:
    """Replace files by the index's manifests, as an interrupted git checkout would leave them."""
    data = "".join(f"{path}\0" for path in paths).encode(errors="surrogateescape")
    repo.run("checkout-index", "-f", "-u", "-z", "--stdin", input=data, env={SKIP_SMUDGE: "1"})


def populate_wanted(
    workspace: Workspace,
    wanted: Mapping[str, Wanted],
    ensure: Callable[[Iterable[Manifest]], None],
    advance: Callable[[int], None] = no_progress,
) -> list[ThetaError]:
    """Write checkpoints over their manifests, and record in git's index that nothing changed.

    Checkpoints that are not written, for whatever reason, stay in ``$GIT_DIR/theta/pending`` for the next command.

    Args:
        workspace: The repository and its store.
        wanted: Checkpoints by path, relative to the top of the work tree.
        ensure: Fetches the data of manifests that the store lacks from a remote; raises an error if it cannot.
        advance: Called with the number of bytes written since the last call.

    Returns:
        The errors; the other files are written.
    """
    repo, store = workspace.repo, workspace.store
    failures: list[ThetaError] = []
    try:
        finish_written_files(workspace)
    except ThetaError as error:
        failures.append(error)
    pending = {path: Wanted(content) for path in read_pending(repo) if (content := manifest_at(repo, path))}
    todo = {path: job for path, job in {**pending, **wanted}.items() if _still_there(repo, path, job)}
    manifests = parsed(todo, failures)
    change_pending(repo, add=manifests, drop=pending.keys() - manifests.keys())
    try:
        ensure(manifests.values())
    except ThetaError as error:
        # Files that need nothing from the remote are written all the same.
        failures.append(_with_paths(error, [path for path, one in manifests.items() if _lacks(store, one)]))
    written = WrittenFiles(workspace, theta_paths(repo.run, manifests))
    undone = set(manifests)
    stopped = True

    drafts = drafts_of_caller(repo.git_dir)

    def write(manifest: Manifest, full: Path, expected: Expected) -> os.stat_result | None:
        draft = None if drafts is None else finished_draft(drafts, manifest, full)
        try:
            return populate(manifest, store, full, expected, advance, workers, draft)
        except MissingError:  # pruned in the meantime, because a remote has it
            ensure([manifest])
            return populate(manifest, store, full, expected, advance, workers)

    try:
        with _workers(workspace, manifests) as workers:
            for path, manifest in manifests.items():
                if failures and _lacks(store, manifest):
                    continue
                try:
                    _replace(written, path, todo[path], write)
                except ThetaError as error:
                    failures.append(error)
                    if manifest_at(repo, path) == todo[path].content:
                        continue
                undone.remove(path)
        stopped = False
    finally:
        unrecorded, problems = written.finish(hurry=stopped)
        change_pending(repo, drop=manifests.keys() - undone - unrecorded)
        if drafts is not None:
            remove_drafts(drafts)
    return [*failures, *problems]


def _workers(workspace: Workspace, manifests: Mapping[str, Manifest]) -> AbstractContextManager[Workers | None]:
    """Give workers if ``theta.cluster`` is set and a file is large enough for jobs."""
    largest = max((sum(nbytes for _, nbytes in one.digests()) for one in manifests.values()), default=0)
    return workers_if_set(workspace) if largest >= WORTH else nullcontext()


def leave_out(workspace: Workspace, supply: Supply, wanted: dict[str, Wanted]) -> None:
    """Remove the checkpoints that are not to be fetched, and note this.

    Args:
        workspace: The repository and its store.
        supply: The tensors that are available.
        wanted: The checkpoints that are to be written, by path.
    """
    manifests = parsed(wanted, [])
    if not workspace.store.touch_and_find_missing(chain.from_iterable(one.named for one in manifests.values())):
        return  # most checkouts need not know the paths, which git is asked for
    left = supply.paths.left_out(workspace.store, manifests.items())
    for path in left:
        del wanted[path]
    if left:
        files = f"{len(left)} checkpoints are" if left[1:] else f"{left[0]} is"
        workspace.reporter.note(
            f"{files} not fetched, as theta.fetch.include and theta.fetch.exclude say; "
            f"git theta checkout {shell_word(left[0])} fetches and writes it"
        )


def total_bytes(wanted: Iterable[Wanted]) -> int:
    """Return the total size of checkpoints in bytes."""
    total = 0
    for job in wanted:
        with suppress(ManifestError):  # reported with its path when it is written
            total += sum(nbytes for _, nbytes in job.manifest.digests())
    return total


def parsed(todo: Mapping[str, Wanted], failures: list[ThetaError]) -> dict[str, Manifest]:
    """Return the manifests by path, without those that are broken or have conflicts.

    Args:
        todo: The manifests.
        failures: Receives an error for each broken one.
    """
    manifests: dict[str, Manifest] = {}
    for path, job in todo.items():
        try:
            manifest = job.manifest
        except ThetaError as error:
            failures.append(type(error)(f"{shown_path(path)}: {error.message}", hint=error.hint))
            continue
        if not manifest.conflicted:  # a conflict stays text until it is resolved
            manifests[path] = manifest
    return manifests


def _lacks(store: Store, manifest: Manifest) -> bool:
    """Return whether a store lacks something of a checkpoint."""
    return bool(store.touch_and_find_missing(manifest.named))


def _with_paths(error: ThetaError, paths: Sequence[str]) -> ThetaError:
    """Return the error of a fetch with the paths of the checkpoints that lack parameters."""
    if not paths or not isinstance(error, MissingError | RemoteError):
        return error
    return type(error)(f"{shortlist(map(shown_path, paths), _SHOWN)}: {error.message}", hint=error.hint)


def _still_there(repo: Repository, path: str, job: Wanted) -> bool:
    if manifest_at(repo, path) != job.content:
        return False
    try:
        written = (repo.folder / path).lstat().st_ctime_ns
    except OSError:
        return False
    return written >= job.since_ns - (_CLOCK_NS if written % 10**9 else _COARSE_NS)


def _replace(
    written: WrittenFiles,
    path: str,
    job: Wanted,
    write: Callable[[Manifest, Path, Expected], os.stat_result | None],
) -> None:
    """Populate one path, if its manifest is still there."""
    repo = written.workspace.repo
    full, content = repo.folder / path, job.content
    before = Expected.at(full).stat
    if before is None or manifest_at(repo, path) != content:
        return
    after = write(job.manifest, full, Expected(before, content))
    if after is not None:
        written.add(path, content, before, after)
        return
    current = manifest_at(repo, path)
    if current == content:
        raise ChangedError(
            f"{shown_path(path)}: another program has it open for writing",
            hint=f"git theta checkout {repo.argument(path)}",
        )
    # Another command may have written this version or a later one, or the file may have been removed.
    if current is None and os.path.lexists(full) and not written.knows(path):
        raise KeptError(path, repo.argument(path))


def _inside(repo: Repository, path: str) -> Path | None:
    """Return the absolute path, or None if it leaves the work tree, for example through a symbolic link."""
    full = repo.folder / path
    top = os.path.realpath(repo.folder)
    parent = os.path.realpath(full.parent)
    return full if parent == top or parent.startswith(top.rstrip(os.sep) + os.sep) else None
