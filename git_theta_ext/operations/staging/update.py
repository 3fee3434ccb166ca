"""Stage a checkpoint with an update that lies beside it: applied, and kept as what it is."""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote
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
class Source:
    """Where an update comes from.

    Attributes:
        kind: The name of its kind, such as ``lora``.
        path: Of its file, or of the folder that holds that.
    """

    kind: str
    path: Path


@dataclass(frozen=True)
class UpdatedFile:
    """A checkpoint whose update is stored, ready to be written and staged.

    Attributes:
        rewrite: What the file will be.
        exact: Parameters that are what the update gives, to the bit.
        residual: Parameters that hold the update by somebody else's arithmetic.
        applied: Whether the file held the update already.
        update_bytes: Size of the update.
        stored_bytes: What the store needed for all of it.
    """

    rewrite: Rewrite
    exact: tuple[str, ...]
    residual: tuple[str, ...]
    applied: bool
    update_bytes: int
    stored_bytes: int


def open_update(path: Path) -> UpdateFile:
    """Open an update: a safetensors file, or a folder of PEFT's with one.

    Raises:
        UsageError: There is no such file, or one that would have to be unpickled.
        FormatError: It breaks its format.
    """
    file = path / _TENSORS if path.is_dir() else path
    pickled = sorted(path.glob("adapter_model.bin")) if path.is_dir() and not file.exists() else []
    if pickled or file.suffix in _PICKLES:
        raise UsageError(
            f"{pickled[0] if pickled else file} is a pickle, which can run anything when it is read",
            hint="save it again with save_pretrained(..., safe_serialization=True)",
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
    source: Source,
    *,
    dry_run: bool,
) -> UpdatedFile:
    """Store what an update makes of a checkpoint; the file and the index stay as they are.

    The update is one of HEAD's version. Where the file holds that version's parameters it is applied. Where it holds
    others they must be what the update makes of them, but for rounding; they are stored as the update and what it
    misses.

    Args:
        workspace: The repository and its store.
        checkpoint: The file.
        source: The update.
        dry_run: Store nothing.

    Raises:
        UsageError: There is no version to update, the update does not fit it, or the file holds something else.
        FormatError: The update breaks its format or does not fit a parameter.
        MissingError: HEAD's values are neither here nor on a remote.
        StoreError: The store cannot be written.
    """
    store = workspace.store
    path, manifest = checkpoint.path, checkpoint.described.manifest
    head = committed(workspace.repo, path)
    if head is None or head.conflicted:
        raise UsageError(
            f"HEAD has no version of {path} to update", hint=f"git add {quote(path)} && git commit, then update"
        )
    file = open_update(source.path)
    changes = read_changes(source.kind, file, {name: parameter.spec for name, parameter in head.parameters.items()})
    for name in changes:
        found = manifest.parameters.get(name)
        if found is None or found.spec != head.parameters[name].spec:
            state = "not there" if found is None else str(found.spec)
            raise UsageError(f"{path}: parameter {name!r} is {head.parameters[name].spec} in HEAD and here {state}")
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
    made = Manifest(manifest.format, manifest.skeleton, parameters)
    written = batches.written if dry_run else batches.written + checkpoint.store(store, made)
    rewrite = Rewrite(path, checkpoint.stat, made, checkpoint.format_name, checkpoint.described.scan.note)
    size = sum(tensor.spec.nbytes for tensor in file.tensors.values())
    return UpdatedFile(rewrite, tuple(exact), tuple(residual), applied, size, written)
