"""Read models in Python: ``git_theta_ext.load`` at once, ``git_theta_ext.open`` tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING

from git_theta_ext.api.versions import LOG, explained, folder_of, version_name, version_of
from git_theta_ext.merging.devices.state_dicts import to_tensor
from git_theta_ext.operations.external_data import external_files
from git_theta_ext.operations.sync.fetch import ensure_digests
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.util.libraries import require
from git_theta_ext.util.reporter import LogReporter

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import torch
    from typing_extensions import Self

    from git_theta_ext.api.versions import Place, Revision
    from git_theta_ext.checkpoint.external_data import ExternalFile
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import Digest, TensorSpec


@explained()
def load(revision: str, *, rev: Revision | None = None, repository: Place = ".") -> dict[str, torch.Tensor]:
    """Read a version of a checkpoint. Missing tensors are fetched from a remote.

    Args:
        revision: ``REV:PATH`` as in ``git show``, such as ``main:model.safetensors``, or ``:PATH`` for the index. The
            path may be a directory with one model, such as a sharded checkpoint. Only ``PATH`` if there is ``rev``.
        rev: A revision, or a ``git.Commit`` of GitPython.
        repository: A directory in the repository, or a ``git.Repo`` of GitPython.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        ThetaError: The version does not exist or cannot be read.
        LibraryError: torch is not installed.
    """
    return read_model(version_name(revision, rev), repository)


def read_model(revision: str, repository: Place) -> dict[str, torch.Tensor]:
    """Read a version as ``load`` does, with errors as other parts of the API expect them."""
    require("torch", "git_theta_ext.load")
    with _opened(revision, repository) as model:
        model.fetch()
        return dict(model)


@explained()
def open_model(revision: str, *, rev: Revision | None = None, repository: Place = ".") -> Model:
    """Open a version of a checkpoint without reading its tensors.

    Example:
        >>> with git_theta_ext.open("run/", rev="v1") as model:
        ...     weight = model["lm_head.weight"]

    Args:
        revision: As in ``load``.
        rev: As in ``load``.
        repository: A directory in the repository, or a ``git.Repo`` of GitPython.

    Returns:
        A mapping from name to tensor. A tensor is read when it is accessed, and fetched from a remote if it is missing.

    Raises:
        ThetaError: The version does not exist.
        LibraryError: torch is not installed.
    """
    require("torch", "git_theta_ext.open")
    return _opened(version_name(revision, rev), repository)


class Model(Mapping[str, "torch.Tensor"]):
    """A version of a model, whose tensors are read when they are accessed; ``git_theta_ext.open`` returns it.

    Each access reads the tensor again, and returns one with memory of its own. A ``with`` statement closes the model.
    """

    def __init__(
        self, workspace: Workspace, parameters: Mapping[str, Parameter], external: Iterable[ExternalFile] = ()
    ) -> None:
        self._workspace = workspace
        self._parameters = parameters
        self._external = {extent.name: file for file in external for extent in file.tensors}
        self._here: set[Digest] = set()

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Element type and shape of each tensor by name, which takes no reading."""
        external = {name: file.extents[name].spec for name, file in self._external.items()}
        return {name: parameter.spec for name, parameter in self._parameters.items()} | external

    @explained()
    def fetch(self, names: Iterable[str] | None = None) -> None:
        """Fetch tensors that are not here in few requests, instead of one after the other.

        Args:
            names: Their names; None for all.

        Raises:
            KeyError: There is no such tensor.
            ThetaError: A tensor is neither here nor on a remote.
        """
        self._ensure({digest for name in (self if names is None else names) for digest in self._digests(name)})

    @explained()
    def __getitem__(self, name: str) -> torch.Tensor:
        """Read a tensor, on the CPU.

        Raises:
            KeyError: There is no such tensor.
            ThetaError: It is neither here nor on a remote, or damaged.
        """
        self._ensure(self._digests(name))
        if name in self._external:
            file = self._external[name]
            return to_tensor(file.extents[name].spec, bytearray(file.value(name)))
        value = self._parameters[name]
        return to_tensor(value.spec, self._workspace.store.read(value.digest, value.spec))

    def __contains__(self, name: object) -> bool:
        """Return whether there is such a tensor, without reading it."""
        return name in self._parameters or name in self._external

    def __iter__(self) -> Iterator[str]:
        """Return the names."""
        return chain(self._parameters, self._external)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self._parameters) + len(self._external)

    def close(self) -> None:
        """Close the store that tensors are read from."""
        self._workspace.close()

    def __enter__(self) -> Self:
        """Return the model itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the model."""
        self.close()

    def _digests(self, name: str) -> set[Digest]:
        """Return what the store has to hold for a tensor."""
        if name in self._external:
            extent = self._external[name].extents[name]
            return self._external[name].content.digests(extent.offset, extent.end)
        return {self._parameters[name].digest}

    def _ensure(self, digests: set[Digest]) -> None:
        if missing := digests - self._here:
            ensure_digests(self._workspace, missing)
            self._here |= missing


def _opened(revision: str, repository: Place) -> Model:
    folder = folder_of(repository)
    workspace = Workspace.discover(LogReporter(LOG), folder)
    version = version_of(workspace.repo, revision, folder)
    rev, path = revision.partition(":")[0], next(iter(version.shards))
    external = external_files(workspace, rev or None, path, version.shards[path])
    return Model(workspace, version.parameters, external)
