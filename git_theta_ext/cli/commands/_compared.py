"""Open the two models whose difference a command takes: files, or versions of checkpoints and of directories."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.checkpoint.file import open_checkpoint_file
from git_theta_ext.errors import UsageError
from git_theta_ext.operations.model_names import find_version
from git_theta_ext.operations.sync.fetch import ensure_local
from git_theta_ext.operations.workspace import Workspace
from git_theta_ext.records import dataclass
from git_theta_ext.util.quoting import shell_word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from git_theta_ext.cli.output import Output
    from git_theta_ext.model.tensor import TensorSpec


@dataclass(frozen=True)
class ComparedModel:
    """A model that is read parameter by parameter.

    Attributes:
        specs: Element type and shape of each parameter, by name.
        chunks: Returns the little-endian bytes of a parameter in chunks.
    """

    specs: Mapping[str, TensorSpec]
    chunks: Callable[[str], Iterable[memoryview]]


@contextmanager
def opened_models(output: Output, *names: str) -> Iterator[list[ComparedModel]]:
    """Open the models that a user names, and the repository if one of them is a version.

    Args:
        output: The output of the command.
        names: Files, or ``REV:PATH`` of checkpoints or of directories with one model.

    Raises:
        UsageError: One is neither.
        ThetaError: One cannot be read.
    """
    with ExitStack() as opened:

        @cache
        def workspace() -> Workspace:
            return opened.enter_context(Workspace.discover(output))

        yield [_open_model(name, workspace) for name in names]


def _open_model(name: str, workspace: Callable[[], Workspace]) -> ComparedModel:
    """Open a model that a user names, and fetch what is missing; a file needs no repository."""
    if Path(name).is_file():
        file = open_checkpoint_file(Path(name))
        return ComparedModel(file.specs, file.chunks)
    if ":" not in name:
        raise UsageError(f"{name} is neither a file nor REV:PATH", hint=f"git theta show HEAD:{shell_word(name)}")
    version = find_version(workspace().repo, name, command="git theta show {}")
    ensure_local(workspace(), list(version.shards.values()))
    store, parameters = workspace().store, version.parameters

    def chunks(name: str) -> Iterator[memoryview]:
        return store.stream(parameters[name].digest, parameters[name].spec)

    return ComparedModel({name: parameter.spec for name, parameter in parameters.items()}, chunks)
