"""Settle conflicts of a checkpoint in the work tree: resolve, write the manifest, stage what is settled whole."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.replace import Expected
from git_theta_ext.checkpoint.unfinished import Unfinished
from git_theta_ext.errors import ChangedError, UsageError
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.git.revisions import head_of, merge_heads
from git_theta_ext.merging.record import Step
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.operations.filter.populate import Wanted, manifest_at, populate_wanted
from git_theta_ext.operations.merge.adapter_configs import config_in_worktree, scales_to_resolve
from git_theta_ext.operations.merge.record import blob_id, note_step
from git_theta_ext.operations.merge.resolve import candidates, resolve, undecided
from git_theta_ext.operations.merge.run import engine
from git_theta_ext.operations.staging.stage import Staged, update_index
from git_theta_ext.operations.sync.fetch import ensure_digests, ensure_local
from git_theta_ext.util.files import reporting_os_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.merging.rules.rules import Choice
    from git_theta_ext.store.store import Store


@dataclass(frozen=True)
class Undecided:
    """A checkpoint that a merge left undecided.

    Attributes:
        path: Below the top of the work tree.
        manifest: With its conflicts, as far as there are any left.
        content: What lies in the work tree, as far as it is a manifest.
        file: What lies there in any case.
    """

    path: str
    manifest: Manifest
    content: bytes | None
    file: Expected


def find(repo: Repository, store: Store, path: str) -> Undecided:
    """Return a checkpoint that a merge left undecided, with everything here that settling it may read.

    Raises:
        UsageError: It has no conflicts.
        ManifestError: A version is a broken manifest.
        MissingError: Values that the conflicts are about are neither here nor on a remote.
    """
    file = Expected.at(worktree_of(repo) / path)
    content = manifest_at(repo, path)
    manifest = Manifest.parse(content) if content is not None else None
    if manifest is None or not manifest.conflicted:
        # Strategies that run no driver, and drivers that could not merge at all, leave only the index's stages.
        manifest = undecided(repo, store, path)
    if manifest is None:
        raise UsageError(f"{path} has no conflicts", hint="git theta status")
    return Undecided(path, manifest, content, replace(file, content=content))


def settle(repo: Repository, store: Store, found: Undecided, choice: Choice, patterns: Sequence[str] = ()) -> Undecided:
    """Settle conflicts by a side or a method, and write what is left of them into the work tree.

    Args:
        repo: The repository.
        store: Its store.
        found: The checkpoint.
        choice: By which side or method.
        patterns: Of parameters; all where there are none.

    Raises:
        ThetaError: As ``git_theta_ext.operations.merge.resolve.resolve``; or the manifest cannot be written.
    """
    ensure_digests(repo, store, candidates(found.manifest))
    heads = [head for head in (head_of(repo), *merge_heads(repo)) if head is not None]
    scaled = scales_to_resolve(repo, store, found.path, heads, config_in_worktree(repo, found.path))
    settled = resolve(found.manifest, store, choice, patterns, lambda: engine(repo, store), scaled=scaled)
    content = settled.to_bytes()
    file = _write(repo, found, content)
    if found.content is not None:
        step = Step(Rules(choice), tuple(patterns))
        note_step(repo, found.path, step, blob_id(repo, found.content), blob_id(repo, content))
    return Undecided(found.path, settled, content, file)


def finish(repo: Repository, store: Store, found: Undecided) -> None:
    """Stage a checkpoint without conflicts, and write its file.

    Raises:
        ThetaError: The index or the file cannot be written, or values are missing.
    """
    content = found.manifest.to_bytes()
    if content != found.content:
        _write(repo, found, content)
    full = worktree_of(repo) / found.path
    update_index(repo, [Staged(found.path, full.lstat(), found.manifest)])
    for failure in populate_wanted(repo, store, {found.path: Wanted(content)}, partial(ensure_local, repo, store)):
        raise failure


def _write(repo: Repository, found: Undecided, content: bytes) -> Expected:
    full = worktree_of(repo) / found.path
    with reporting_os_errors(full), Unfinished(full, repo.theta_dir) as unfinished:
        with open(unfinished.descriptor, "wb", closefd=False) as file:
            file.write(content)
        if not unfinished.put(found.file):
            raise ChangedError(
                f"{found.path} was changed by another program meanwhile, and was left as it is",
                hint=f"git theta resolve {found.path}",
            )
        return Expected(os.fstat(unfinished.descriptor), content)
