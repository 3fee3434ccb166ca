"""The files of a model in a directory, opened for reading as one checkpoint."""

from __future__ import annotations

from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.file import open_checkpoint_file
from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.model.manifest import values_digest
from git_theta_ext.model.shard_index import MAX_INDEX, ShardIndex
from git_theta_ext.model.shards import is_index, models_of
from git_theta_ext.records import dataclass
from git_theta_ext.util.quoting import shown_path
from git_theta_ext.util.text import shortlist

if TYPE_CHECKING:
    from pathlib import Path

    from git_theta_ext.checkpoint.file import CheckpointFile
    from git_theta_ext.model.tensor import Digest, TensorSpec

_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
_STATISTICS = ".stats.safetensors"


@dataclass(frozen=True)
class ModelFiles:
    """The open files of a model.

    Attributes:
        path: The path that the model has, or would have, as one file.
        paths: Paths of its files.
        files: Its files.
    """

    path: Path
    paths: tuple[Path, ...]
    files: tuple[CheckpointFile, ...]

    @cached_property
    def holders(self) -> dict[str, CheckpointFile]:
        """The file that has each tensor, by name."""
        return {name: file for file in self.files for name in file.specs}

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Element type and shape of each tensor, by name."""
        return {name: file.specs[name] for name, file in self.holders.items()}

    def value(self, name: str) -> memoryview:
        """Return a writable copy of a tensor's bytes."""
        return self.holders[name].value(name)

    def values_digest(self) -> Digest:
        """Return the digest of all values, which takes reading all files."""
        return values_digest({name: value for file in self.files for name, value in file.parameters().items()})


def open_model_files(path: Path) -> ModelFiles:
    """Open a checkpoint, or the files of the only model in a directory.

    Raises:
        UsageError: A file is a manifest, or the directory does not have exactly one model.
        FormatError: A file cannot be split into tensors, or two files have the same parameter.
        StoreError: A file cannot be read.
    """
    paths, whole = ((path,), path) if not path.is_dir() else _only_model(path)
    files = tuple(open_checkpoint_file(file) for file in paths)
    model = ModelFiles(whole, paths, files)
    if len(model.holders) < sum(len(file.specs) for file in files):
        raise FormatError(f"{shown_path(str(path))}: two files have parameters of the same name")
    return model


def _only_model(folder: Path) -> tuple[tuple[Path, ...], Path]:
    names = sorted(file.name for file in folder.iterdir() if file.is_file())
    indexes = {}
    for name in filter(is_index, names):
        with suppress(FormatError, OSError):
            if (folder / name).stat().st_size <= MAX_INDEX:
                indexes[name] = ShardIndex.parse((folder / name).read_bytes())
    checkpoints = [name for name in names if name.endswith(_SUFFIXES) and not name.endswith(_STATISTICS)]
    models = models_of(checkpoints, indexes)
    chosen = [model for model in models if len(model.shards) > 1] or models
    if len(chosen) != 1:
        found = f"several models: {shortlist(model.name for model in chosen)}" if chosen else "no checkpoint"
        raise UsageError(f"{folder} has {found}", hint="git theta stats -h")
    return tuple(folder / name for name in chosen[0].shards), folder / chosen[0].name
