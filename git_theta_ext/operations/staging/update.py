"""Stage a checkpoint with an update from another file: the update is applied, and stored as an update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.operations.staging.stage import Rewrite
from git_theta_ext.operations.staging.worktree_checkpoint import committed
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.store.batches import Batches
from git_theta_ext.update.apply import CheckpointUpdate, is_applied, results
from git_theta_ext.update.files import MAX_CONFIG, read_update
from git_theta_ext.update.read import read_changes
from git_theta_ext.util.file_bytes import open_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from git_theta_ext.interfaces import UpdateFile
    from git_theta_ext.operations.staging.worktree_checkpoint import WorktreeCheckpoint
    from git_theta_ext.operations.workspace import Workspace

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
        update_bytes: Size of the update in bytes.
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
        raise UsageError(f"{file} is not a file", hint="git theta add -h")
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
    checkpoint: WorktreeCheckpoint,
    source: UpdateSource,
    *,
    dry_run: bool,
) -> UpdatedFile:
    """Store the result of applying an update to a checkpoint; the file and the index stay as they are.

    The update applies to HEAD's version. If the file has that version's parameters, the update is applied. If it has
    other values, they must equal the result of the update except for rounding; they are stored as the update and the
    remaining difference.

    Args:
        workspace: The repository and its store.
        checkpoint: The file.
        source: The update.
        dry_run: Store nothing.

    Raises:
        UsageError: There is no version to update, the update does not fit it, or the file has other changes.
        FormatError: The checkpoint or the update is malformed, or the update does not fit a parameter.
        MissingError: HEAD's values are neither in the store nor on a remote.
        StoreError: The store cannot be written.
    """
    store = workspace.store
    if checkpoint.described.scan.malformed is not None:
        raise checkpoint.described.scan.malformed
    path, manifest = checkpoint.path, checkpoint.described.manifest
    head = committed(workspace.repo, path)
    if head is None or head.conflicted:
        raise UsageError(
            f"HEAD has no version of {path} to update",
            hint=f"git add {workspace.repo.argument(path)} && git commit, then update",
        )
    file = open_update(source.path)
    changes = read_changes(source.kind, file, {name: parameter.spec for name, parameter in head.parameters.items()})
    for name in changes:
        current = manifest.parameters.get(name)
        if current is None or current.spec != head.parameters[name].spec:
            state = "missing" if current is None else str(current.spec)
            raise UsageError(
                f"{path}: parameter {name!r} is {head.parameters[name].spec} in HEAD but {state} in the file"
            )
    update = CheckpointUpdate(changes, head.parameters, manifest.parameters, checkpoint.value)
    ensure_digests(workspace, {head.parameters[name].digest for name in changes})
    batches = Batches(store)
    parameters = dict(manifest.parameters)
    exact: list[str] = []
    residual: list[str] = []
    try:
        applied = is_applied(update, store)
        for item in results(update, store, applied=applied):
            (exact if item.exact else residual).append(item.name)
            if not dry_run:
                parameters[item.name] = batches.add(item.spec, item.data, item.hint)
    except (FormatError, UsageError) as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from error
    batches.flush()
    updated = Manifest(manifest.format, manifest.skeleton, parameters)
    written = batches.written if dry_run else batches.written + checkpoint.store(store, updated)
    rewrite = Rewrite(path, checkpoint.stat, updated, checkpoint.format_name, checkpoint.described.scan.note)
    size = sum(tensor.spec.nbytes for tensor in file.tensors.values())
    return UpdatedFile(rewrite, tuple(exact), tuple(residual), applied, size, written)
