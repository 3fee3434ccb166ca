"""Read models in Python: ``git_theta_ext.load`` at once, ``git_theta_ext.open`` tensor by tensor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, overload

from git_theta_ext.api.frameworks import framework_of
from git_theta_ext.api.opened import Model
from git_theta_ext.api.versions import LOG, explained, folder_of, version_name, version_of
from git_theta_ext.operations.model_reader import ModelReader
from git_theta_ext.operations.tied import with_all_names
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.util.reporter import LogReporter

if TYPE_CHECKING:
    import torch
    from numpy.typing import DTypeLike, NDArray

    from git_theta_ext.api.versions import Path, Place, Revision

    Torch = Literal["pt", "torch", "pytorch"]
    Numpy = Literal["np", "numpy"]


@overload
def load(
    revision: Path,
    *,
    rev: Revision | None = None,
    repository: Place = ".",
    framework: Torch = "pt",
    device: str | int | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
) -> dict[str, torch.Tensor]: ...


@overload
def load(
    revision: Path,
    *,
    rev: Revision | None = None,
    repository: Place = ".",
    framework: Numpy,
    device: Literal["cpu"] = "cpu",
    dtype: DTypeLike | None = None,
) -> dict[str, NDArray[Any]]: ...


@explained()
def load(  # noqa: PLR0913 - named
    revision: Path,
    *,
    rev: Revision | None = None,
    repository: Place = ".",
    framework: str = "pt",
    device: str | int | torch.device = "cpu",
    dtype: Any = None,
) -> dict[str, Any]:
    """Read a version of a model. Missing tensors are fetched from a remote.

    Example:
        >>> model.load_state_dict(git_theta_ext.load("model.safetensors", rev="v1.0"))

    Args:
        revision: Path of a checkpoint, or of a directory with one model, such as a sharded checkpoint. As in
            ``git show``, it starts at the top of the repository; one that begins with ``./`` or ``../`` is relative to
            ``repository``, by default to the current directory, as all paths of ``save`` are. Without ``rev`` it may
            also be ``REV:PATH``, or ``:PATH`` for the index.
        rev: A revision, such as a branch, a tag or ``HEAD~2``, or a ``git.Commit`` of GitPython. The default is
            ``HEAD``.
        repository: A directory in the repository, or a ``git.Repo`` of GitPython. It may be bare.
        framework: ``pt`` for tensors of torch, ``np`` for arrays of numpy, whose element types such as bfloat16 come
            from ml_dtypes.
        device: The device of torch.
        dtype: The type that floating-point tensors are converted to, such as ``torch.float32`` or ``"float32"``. The
            default is the type of each tensor. Integers and booleans keep theirs.

    Returns:
        The tensors by name.

    Raises:
        ThetaError: The version does not exist or cannot be read.
        LibraryError: torch, or ml_dtypes if numpy needs it, is not installed.
    """
    with _opened(revision, rev, repository, framework, device, dtype) as model:
        return model.get_tensors()


def read_model(revision: str, repository: Place) -> dict[str, torch.Tensor]:
    """Read a version as ``load`` does, with errors as other parts of the API expect them."""
    with _opened(revision, None, repository, "pt", "cpu", None) as model:
        return model.get_tensors()


@overload
def open_model(
    revision: Path,
    *,
    rev: Revision | None = None,
    repository: Place = ".",
    framework: Torch = "pt",
    device: str | int | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
) -> Model[torch.Tensor]: ...


@overload
def open_model(
    revision: Path,
    *,
    rev: Revision | None = None,
    repository: Place = ".",
    framework: Numpy,
    device: Literal["cpu"] = "cpu",
    dtype: DTypeLike | None = None,
) -> Model[NDArray[Any]]: ...


@explained()
def open_model(  # noqa: PLR0913 - named
    revision: Path,
    *,
    rev: Revision | None = None,
    repository: Place = ".",
    framework: str = "pt",
    device: str | int | torch.device = "cpu",
    dtype: Any = None,
) -> Model[Any]:
    """Open a version of a model without reading its tensors.

    Example:
        >>> with git_theta_ext.open("run/", rev="v1.0") as model:
        ...     weight = model["lm_head.weight"]
        ...     row = model.get_slice("embedding.weight")[42]

    Args:
        revision: As in ``load``.
        rev: As in ``load``.
        repository: As in ``load``.
        framework: As in ``load``.
        device: As in ``load``.
        dtype: As in ``load``.

    Returns:
        A mapping from name to tensor. A tensor is read when it is accessed, and fetched from a remote if it is missing.

    Raises:
        ThetaError: The version does not exist.
        LibraryError: torch is not installed, and ``framework`` is not ``np``.
    """
    return _opened(revision, rev, repository, framework, device, dtype)


def _opened(  # noqa: PLR0913, PLR0917 - those of ``open_model``
    revision: Path, rev: Revision | None, repository: Place, framework: str, device: Any, dtype: Any
) -> Model[Any]:
    made = framework_of(framework, device, dtype)
    folder = folder_of(repository)
    name = version_name(os.fspath(revision), rev)
    workspace = Workspace.discover(LogReporter(LOG), folder)
    try:
        version = with_all_names(workspace, version_of(workspace.repo, name, folder))
        return Model(name, ModelReader(workspace, name.partition(":")[0] or None, version), made)
    except BaseException:
        workspace.close()
        raise
