"""Stage a model with an update from another file: the update is applied, and stored as an update."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.model.shards import model_name
from git_theta_ext.operations.models import Directory
from git_theta_ext.operations.staging.stage import Rewrite
from git_theta_ext.operations.staging.worktree_checkpoint import committed
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.records import dataclass, replace
from git_theta_ext.store.batches import Batches
from git_theta_ext.update.apply import CheckpointUpdate, is_applied, results
from git_theta_ext.update.files import MAX_CONFIG, read_update
from git_theta_ext.update.read import read_changes
from git_theta_ext.util.file_bytes import open_bytes
from git_theta_ext.util.quoting import shell_word, shown_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.git.repository import Repository
    from git_theta_ext.interfaces import UpdateFile
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.operations.staging.worktree_checkpoint import WorktreeCheckpoint
    from git_theta_ext.operations.workspace import Workspace
    from git_theta_ext.store.store import Store

_CONFIG = "adapter_config.json"
_TENSORS = "adapter_model.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class UpdateSource:
    """Where an update comes from.

    Attributes:
        kind: The name of its kind, such as ``lora``.
        path: Path of its file, or of the directory that contains the file.
    """

    kind: str
    path: Path


@dataclass(frozen=True)
class UpdatedFile:
    """A checkpoint whose update is stored, ready to be written and staged.

    Attributes:
        rewrite: The new content of the file.
        exact: Parameters that equal the result of the update bit for bit.
        residual: Parameters to which other software applied the update; they equal its result except for rounding.
        applied: Whether the update was already applied to the file.
        update_bytes: Size of the whole update in bytes.
        stored_bytes: Number of bytes added to the store.
    """

    rewrite: Rewrite
    exact: tuple[str, ...]
    residual: tuple[str, ...]
    applied: bool
    update_bytes: int
    stored_bytes: int


def open_update(path: Path) -> UpdateFile:
    """Open an update: a safetensors file, or a PEFT directory with one.

    Raises:
        UsageError: There is no such file, or it would have to be unpickled.
        FormatError: It is malformed.
    """
    file = path / _TENSORS if path.is_dir() else path
    pickled = sorted(path.glob("adapter_model.bin")) if path.is_dir() and not file.exists() else []
    if pickled or file.suffix in _PICKLES:
        raise UsageError(
            f"{pickled[0] if pickled else file} is a pickle, which can run anything when it is read",
            hint="model.save_pretrained(DIRECTORY, safe_serialization=True) saves it as safetensors",
        )
    if file.exists() and not file.is_file():
        raise UsageError(f"{shown_path(str(file))} is not a file", hint="git theta add -h")
    try:
        config = None
        if (file.parent / _CONFIG).is_file():
            with (file.parent / _CONFIG).open("rb") as stream:
                config = stream.read(MAX_CONFIG + 1)
        return read_update(open_bytes(file, str(path)), str(path), config)
    except OSError as error:
        raise UsageError(f"{error.filename or file}: {error.strerror}", hint="git theta add -h") from error


def store_update(
    workspace: Workspace,
    checkpoints: Sequence[WorktreeCheckpoint],
    source: UpdateSource,
    *,
    dry_run: bool,
) -> list[UpdatedFile]:
    """Store the result of applying an update to a model; the files and the index stay as they are.

    The update applies to HEAD's version. If the files have that version's parameters, the update is applied. If they
    have other values, they must equal the result of the update except for rounding; they are stored as the update and
    the remaining difference.

    Args:
        workspace: The repository and its store.
        checkpoints: The files of the model.
        source: The update.
        dry_run: Store nothing.

    Returns:
        The files that the update changes.

    Raises:
        UsageError: There is no version to update, the update does not fit it, or the files have other changes.
        FormatError: A checkpoint or the update is malformed, or the update does not fit a parameter.
        MissingError: HEAD's values are neither in the store nor on a remote.
        StoreError: The store cannot be written.
    """
    for checkpoint in checkpoints:
        if checkpoint.described.scan.malformed is not None:
            raise checkpoint.described.scan.malformed
    head = _head(workspace.repo, [checkpoint.path for checkpoint in checkpoints])
    file = open_update(source.path)
    changes = read_changes(source.kind, file, {name: parameter.spec for name, parameter in head.items()})
    holders = {name: checkpoint for checkpoint in checkpoints for name in checkpoint.described.manifest.parameters}
    current = {name: holder.described.manifest.parameters[name] for name, holder in holders.items()}
    _check_specs(checkpoints[0].path, changes, head, current)
    update = CheckpointUpdate(changes, head, current, lambda name: holders[name].value(name))
    ensure_digests(workspace, {head[name].digest for name in changes})
    size = sum(tensor.spec.nbytes for tensor in file.tensors.values())
    try:
        applied = is_applied(update, workspace.store)
        return [
            _store(workspace.store, holder, replace(update, changes=own), size, applied=applied, dry_run=dry_run)
            for holder in checkpoints
            if (own := {name: change for name, change in changes.items() if holders[name] is holder})
        ]
    except (FormatError, UsageError) as error:
        raise type(error)(f"{shown_path(checkpoints[0].path)}: {error.message}", hint=error.hint) from error


def _head(repo: Repository, paths: Sequence[str]) -> Mapping[str, Parameter]:
    """Return the parameters of HEAD's version of a model, whichever of its files holds them."""
    head = committed(repo, paths[0])
    if len(paths) > 1:
        directory = Directory.of(repo, "HEAD", posixpath.dirname(paths[0]))
        models = (directory.model_with(path) for path in (*paths, model_name(paths[0])))
        found = next((model for model in models if model is not None), None)
        version = None if found is None else directory.version(found.name)
        if version is not None and version.joined:
            folder = posixpath.dirname(paths[0])
            raise UsageError(
                f"{folder or '.'} has its tensors in pieces, and an update applies to whole ones",
                hint=f"git theta export --to safetensors {shell_word(f'HEAD:{folder}')} FILE, and update that",
            )
        head = None if version is None else version.as_one()
    if head is None or head.conflicted:
        raise UsageError(
            f"HEAD has no version of {shown_path(paths[0])} to update",
            hint=f"git add {repo.argument(paths[0])} && git commit, then update",
        )
    return head.parameters


def _check_specs(
    path: str, changes: Iterable[str], head: Mapping[str, Parameter], current: Mapping[str, Parameter]
) -> None:
    for name in changes:
        if name not in current or current[name].spec != head[name].spec:
            state = "missing" if name not in current else str(current[name].spec)
            raise UsageError(
                f"{shown_path(path)}: parameter {name!r} is {head[name].spec} in HEAD but {state} in the file"
            )


def _store(  # noqa: PLR0913 - named, but for what every file has
    store: Store, checkpoint: WorktreeCheckpoint, update: CheckpointUpdate, size: int, *, applied: bool, dry_run: bool
) -> UpdatedFile:
    manifest = checkpoint.described.manifest
    batches = Batches(store)
    parameters = dict(manifest.parameters)
    exact: list[str] = []
    residual: list[str] = []
    for item in results(update, store, applied=applied):
        (exact if item.exact else residual).append(item.name)
        if not dry_run:
            parameters[item.name] = batches.add(item.spec, item.data, item.hint)
    batches.flush()
    updated = Manifest(manifest.format, manifest.skeleton, parameters)
    written = batches.written if dry_run else batches.written + checkpoint.store(store, updated)
    note = checkpoint.described.scan.note
    rewrite = Rewrite(checkpoint.path, checkpoint.stat, updated, checkpoint.format_name, note)
    return UpdatedFile(rewrite, tuple(exact), tuple(residual), applied, size, written)
