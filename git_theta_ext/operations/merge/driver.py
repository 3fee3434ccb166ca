"""Git's merge driver for checkpoints (gitattributes, "Defining a custom merge driver").

Git passes three manifests as files and reads the result from the second one. It also calls the driver for virtual
ancestors, and uses the result whatever the exit code, so it must be a manifest that is made without arithmetic.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.errors import StoreError, ThetaError
from git_theta_ext.git.merge_file import merge_file
from git_theta_ext.git.objects import blob_id
from git_theta_ext.git.operation import FROM_INDEX, MERGE, current_operation, merged_commits
from git_theta_ext.git.process import NESTED
from git_theta_ext.git.revisions import check_two_sides
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.record import Record
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.model.manifest import MAX_MANIFEST, Manifest, is_manifest
from git_theta_ext.model.shards import is_text
from git_theta_ext.operations.merge.model_driver import DriverCall, answer
from git_theta_ext.operations.merge.planning import plan_checkpoint, without_torch
from git_theta_ext.operations.merge.record import recorded_rules
from git_theta_ext.operations.merge.result import remember, report
from git_theta_ext.operations.merge.rule_sources import rule_sources
from git_theta_ext.operations.merge.rules import merge_rules, warn_of_former_settings
from git_theta_ext.operations.merge.run import merge
from git_theta_ext.operations.merge.versions import read_version
from git_theta_ext.util.files import replace_content, reporting_os_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from git_theta_ext.git.operation import Operation
    from git_theta_ext.git.repository import Repository
    from git_theta_ext.operations.workspace import Workspace


CLEAN = 0
CONFLICT = 1
CRASHED = 129
"""From this exit code on, git 2.42 stops the whole merge instead of leaving a conflict."""

_MARKER_SIZE = 7
_ANCESTORS = 2
"""Markers are longer by this for each level of common ancestors that git itself merges; for renames by one."""


def run(words: Sequence[str], workspace: Workspace) -> int:
    """Merge a checkpoint for git.

    Args:
        words: The values of ``%O %A %B %L %P``: files with the ancestor's, our and their manifest, the size of conflict
            markers, and the checkpoint's path.
        workspace: The repository and its store.

    Returns:
        0 for a clean merge or an ancestor, 1 for a merge with conflicts, 129 if the result could not be stored. In the
        first two cases our file has a manifest, unless a side is not a manifest; then it is unchanged.
    """
    base_file, ours_file, theirs_file, marker_size, path = words
    repo, ours = workspace.repo, Path(ours_file)
    virtual = int(marker_size) - _usual_size(repo, path) >= _ANCESTORS
    try:
        contents = [_content(name, whole=is_text(path)) for name in (base_file, ours_file, theirs_file)]
        meanwhile = partial(_conflicts_meanwhile, ours, contents[1])
        heads, operation = merged_commits(repo), MERGE if virtual else current_operation(repo)
        if operation.name in FROM_INDEX:
            check_two_sides(repo, path)
        if not virtual:
            warn_of_former_settings(workspace.settings, workspace.reporter)
            nested = NESTED in os.environ
            call = DriverCall(path, contents, marker_size, heads, operation, meanwhile)
            answered = None if nested else answer(workspace, call)
            if answered is not None:
                _write(ours, answered.content)
                return CONFLICT if answered.conflicted else CLEAN
        if is_text(path):
            return merge_file(repo, ours_file, base_file, theirs_file)
        base = read_version(contents[0], "the common ancestor's version", allow_conflicts=True) if contents[0] else None
        sides = read_version(contents[1], "our version"), read_version(contents[2], "their version")
        if virtual:
            rules = Rules.only("conflict")
            planned = plan(base, sides, rules)
        else:
            rules = _rules(workspace, operation, path, *sides)
            planned = without_torch(plan_checkpoint(workspace, base, sides, rules))
        outcome = merge(
            workspace,
            planned,
            path,
            heads,
            label="merging",
            meanwhile=lambda outcome: meanwhile(lambda: outcome().manifest),
        )
        _write(ours, outcome.manifest.to_bytes())
    except ThetaError as error:
        hint = error.hint or f"git checkout --ours {repo.argument(path)}, or --theirs"
        workspace.reporter.error(ThetaError(f"{path}: {error.message}; our version is kept", hint=hint))
        return CRASHED if isinstance(error, StoreError) else CONFLICT
    if not virtual:
        report(workspace, path, outcome, operation)
        ids = [blob_id(content, repo.object_format) if content else None for content in contents]
        record = Record.of(path, ids, heads, rules, planned, outcome.unread)
        result = blob_id(outcome.manifest.to_bytes(), repo.object_format)
        remember(workspace, heads, {path: (record, {path: result})})
    return CONFLICT if outcome.conflicts and not virtual else CLEAN


def _rules(workspace: Workspace, operation: Operation, path: str, *sides: Manifest) -> Rules:
    """Return the rules for a checkpoint; if git repeats a merge, the rules that its commit records."""
    recorded = None if operation.remade is None else recorded_rules(workspace, operation.remade, path)
    names = [side.parameters for side in sides]
    return merge_rules(rule_sources(workspace.repo), *names, operation=operation, recorded=recorded)


def _usual_size(repo: Repository, path: str) -> int:
    """Return the length of a path's conflict markers."""
    value = repo.run("check-attr", "-z", "conflict-marker-size", "--", path).split(b"\0")[2]
    return int(value) if value.isdigit() and int(value) else _MARKER_SIZE


def _content(name: str, *, whole: bool) -> bytes:
    with Path(name).open("rb") as file:
        data = file.read(64)
        if whole or is_manifest(data):
            data += file.read(MAX_MANIFEST)
    return data


def _write(file: Path, data: bytes) -> None:
    with reporting_os_errors(file):
        replace_content(file, data)


@contextmanager
def _conflicts_meanwhile(file: Path, ours: bytes, conflicts: Callable[[], Manifest]) -> Iterator[None]:
    """Write a manifest to our file in which the values that are being computed are conflicts.

    If the driver is killed, git leaves the file in the work tree. If the file had our version, the next
    ``git commit --all`` would lose theirs.
    """
    with suppress(ThetaError):
        _write(file, conflicts().to_bytes())
    try:
        yield
    except ThetaError:
        with suppress(StoreError):
            _write(file, ours)
        raise
