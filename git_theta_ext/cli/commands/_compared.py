"""Open the two models whose difference a command takes: files, or versions of checkpoints and of directories."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.file import open_checkpoint_file
from git_theta_ext.errors import UsageError
from git_theta_ext.operations.model_names import find_version
from git_theta_ext.operations.sync.fetch import ensure_local
from git_theta_ext.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.operations.workspace import Workspace


@dataclass(frozen=True)
class ComparedModel:
    """A model that is read parameter by parameter.

    Attributes:
        specs: Element type and shape of each parameter, by name.
        chunks: Returns the little-endian bytes of a parameter in chunks.
    """

    specs: Mapping[str, TensorSpec]
    chunks: Callable[[str], Iterable[memoryview]]


def open_model(name: str, workspace: Callable[[], Workspace]) -> ComparedModel:
    """Open a model that a user names, and fetch what is missing.

    Args:
        name: A file, or ``REV:PATH`` of a checkpoint or of a directory with one model.
        workspace: Opens the repository, which a file does not need.

    Raises:
        UsageError: It is neither.
        ThetaError: It cannot be read.
    """
    if Path(name).is_file():
        file = open_checkpoint_file(Path(name))
        return ComparedModel(file.specs, file.chunks)
    if ":" not in name:
        raise UsageError(f"{name} is neither a file nor REV:PATH", hint=f"git theta show HEAD:{quote(name)}")
    version = find_version(workspace().repo, name, command="git theta show {}")
    ensure_local(workspace(), list(version.shards.values()))
    store, parameters = workspace().store, version.parameters

    def chunks(name: str) -> Iterator[memoryview]:
        return store.stream(parameters[name].digest, parameters[name].spec)

    return ComparedModel({name: parameter.spec for name, parameter in parameters.items()}, chunks)
