"""Save models in Python: ``git_theta_ext.save`` writes a checkpoint and stages it."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from git_theta_ext.api.frameworks import is_array, value_bytes
from git_theta_ext.api.versions import LOG, explained, folder_of
from git_theta_ext.errors import ConfigError, UsageError
from git_theta_ext.git.attributes import theta_paths
from git_theta_ext.git.hooks import ensure_hooks
from git_theta_ext.git.install import configured
from git_theta_ext.git.pathspecs import worktree_of
from git_theta_ext.operations.conversion.output import writing
from git_theta_ext.operations.conversion.targets import target_of
from git_theta_ext.operations.staging.stage import rewrite_and_stage, store_file
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.records import dataclass
from git_theta_ext.util.folders import temporary_folder
from git_theta_ext.util.libraries import require
from git_theta_ext.util.quoting import shell_word
from git_theta_ext.util.reporter import LogReporter
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from git_theta_ext.api.versions import Place
    from git_theta_ext.model.tensor import TensorSpec

    Tensors = Mapping[str, torch.Tensor] | Mapping[str, NDArray[Any]]


@explained()
def save(
    tensors: Tensors,
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, str] | None = None,
    repository: Place = ".",
) -> None:
    """Write a checkpoint, to the byte as the library of its format does, and stage it.

    The name decides the format: ``.pt``, ``.pth``, ``.bin`` and ``.ckpt`` are files of ``torch.save``, ``.npz`` is an
    archive of ``numpy.savez``, and all others are files of ``safetensors.torch.save_file``. Tensors that share memory
    are written one by one, except by ``torch.save``: there they are one parameter, which has the first of their names.

    Example:
        >>> git_theta_ext.save(model.state_dict(), "model.safetensors")

    Args:
        tensors: The tensors of torch by name, such as a ``state_dict()``; or arrays of numpy, except in a file of
            torch.
        path: The file, relative to the current directory, unlike paths of ``load``, which start at the top of the
            repository unless they begin with ``./``. It must match a pattern that git theta tracks.
        metadata: Texts by key, for a file of safetensors.
        repository: A directory in the repository, or a ``git.Repo`` of GitPython.

    Raises:
        UsageError: The file is not tracked, or not in the work tree.
        FormatError: The format does not have the element type of a tensor.
        LibraryError: The library of the tensors is not installed.
        ThetaError: The file cannot be written or staged.
    """
    file = Path(path).absolute()
    with Workspace.discover(LogReporter(LOG), folder_of(repository)) as workspace:
        repo = workspace.repo
        top = worktree_of(repo).resolve()
        place = file.parent.resolve() / file.name
        if not place.is_relative_to(top):
            below = os.path.relpath(top / file.name)
            raise UsageError(f"{path} is not in the work tree {top}", hint=f"git_theta_ext.save(tensors, {below!r})")
        inside = place.relative_to(top).as_posix()
        formats = theta_paths(repo.run, [inside])
        if inside not in formats:
            raise UsageError(f"{path} is not tracked by git theta", hint=f"git theta track {shell_word(inside)}")
        if not configured(repo):
            raise ConfigError("git is not configured to use git theta", hint="git theta install")
        _write(tensors, Path(path), metadata or {})
        staged = store_file(workspace, inside, formats[inside], no_progress)
        rewrite_and_stage(workspace, [], [staged])
        ensure_hooks(repo)


def _write(tensors: Tensors, path: Path, metadata: Mapping[str, str]) -> None:
    target = target_of(path)
    arrays = any(is_array(tensor) for tensor in tensors.values())
    if target.name == "torch" and arrays:
        raise UsageError("a file of torch has no arrays of numpy", hint="torch.from_numpy")
    if not arrays:
        require("torch", "git_theta_ext.save")
    given = _Given({name: value_bytes(name, tensor) for name, tensor in tensors.items()})
    target.check(given.specs)
    with writing(target, path) as output:
        if target.name == "torch":
            _save_as_torch(tensors, path, output)
        else:
            target.write(output, given, metadata)


def _save_as_torch(tensors: Tensors, path: Path, output: Path) -> None:
    """Call ``torch.save`` with the name of the file, which it writes into it, and with tensors that share memory."""
    import torch

    with temporary_folder(path.parent) as folder:
        torch.save(tensors, folder / path.name)
        (folder / path.name).replace(output)


@dataclass(frozen=True)
class _Given:
    """Tensors in memory."""

    values: Mapping[str, tuple[TensorSpec, memoryview]]

    @cached_property
    def specs(self) -> Mapping[str, TensorSpec]:
        return {name: spec for name, (spec, _) in self.values.items()}

    def streams(self, names: Sequence[str]) -> Iterator[Iterator[memoryview]]:
        for name in names:
            yield iter([self.values[name][1]])
