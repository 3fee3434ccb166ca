"""Get a model, examples and a loss from a function of the user, which is imported as Python imports modules."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import UsageError
from git_theta_ext.records import dataclass
from git_theta_ext.util.text import similar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    import torch

_PARTS = 3


@dataclass(frozen=True)
class Provided:
    """What ``git_theta_ext.statistics.collect.collect`` needs.

    Attributes:
        module: The model.
        examples: What ``loss`` is called with, one after another.
        loss: Runs the module on an example.
    """

    module: torch.nn.Module
    examples: Iterable[Any]
    loss: Callable[[torch.nn.Module, Any], torch.Tensor]


@contextmanager
def importing_from(directory: Path) -> Iterator[None]:
    """Import modules from a directory first, as Python does for the script that it runs."""
    entry = str(directory)
    sys.path.insert(0, entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(entry)


def find(spec: str, directory: Path) -> Callable[[], object]:
    """Import the function that ``MODULE:FUNCTION`` names; nothing else of the user's is run.

    Args:
        spec: The function.
        directory: Where modules are looked for first.

    Raises:
        UsageError: There is no such module or function, or the module is another one of that name.
        Exception: Whatever importing the module raises.
    """
    name, colon, path = spec.partition(":")
    if not colon or not all(part.isidentifier() for part in (*name.split("."), *path.split("."))):
        raise UsageError(
            f"{spec!r} is not MODULE:FUNCTION",
            hint="use --with train:statistics for the function statistics in train.py",
        )
    try:
        value: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and imports one that is not
        raise UsageError(
            f"there is no module {error.name!r} in the current directory",
            hint="cd to the directory that has it",
        ) from error
    own = directory.joinpath(*name.split("."))
    if (own.is_dir() or own.with_name(f"{own.name}.py").is_file()) and directory not in Path(_origin(value)).parents:
        raise UsageError(f"{name} is a module of Python or of another package", hint="rename your module")
    for part in path.split("."):
        if not hasattr(value, part):
            near = similar(part, dir(value))
            raise UsageError(f"{name} has no {part!r}", hint=f"did you mean {near}?" if near else None)
        value = getattr(value, part)
    if not callable(value):
        raise UsageError(f"{spec} is not a function but {type(value).__name__}")
    function: Callable[[], object] = value
    return function


def _origin(module: ModuleType) -> str:
    return module.__file__ or next(iter(getattr(module, "__path__", [])), "")


def checked(spec: str, returned: object) -> Provided:
    """Return what a function returned, if that is a model, examples and a loss.

    Args:
        spec: What the user calls the function.
        returned: What it returned.

    Raises:
        UsageError: It is something else.
    """
    import torch

    wanted = f"{spec} must return a module, examples and a loss"
    if not isinstance(returned, tuple) or len(returned) != _PARTS:
        raise UsageError(f"{wanted}, not {type(returned).__name__}", hint="return model, examples, loss")
    module, examples, loss = returned
    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"{wanted}; the first is not a torch.nn.Module but {type(module).__name__}")
    try:
        iter(examples)
    except TypeError as error:
        raise UsageError(f"{wanted}; the second is not iterable: {type(examples).__name__}") from error
    if not callable(loss):
        raise UsageError(f"{wanted}; the third is not callable: {type(loss).__name__}")
    return Provided(module, examples, loss)
