"""The kinds of updates, by the name that a user gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.update.compeft import read_compeft
from git_theta_ext.update.ia3 import read_ia3
from git_theta_ext.update.lora import read_lora
from git_theta_ext.update.sparse import read_sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.update.change import Change
    from git_theta_ext.update.files import UpdateFile

READERS: dict[str, Callable[[UpdateFile, Mapping[str, TensorSpec]], dict[str, Change]]] = {
    "lora": read_lora,
    "sparse": read_sparse,
    "ia3": read_ia3,
    "compeft": read_compeft,
}


def read_changes(kind: str, file: UpdateFile, parameters: Mapping[str, TensorSpec]) -> dict[str, Change]:
    """Return what an update makes of a checkpoint's parameters.

    Args:
        kind: One of READERS.
        file: What the update holds.
        parameters: The checkpoint's.

    Returns:
        A change for each parameter that it names, by its name in the checkpoint; at least one.

    Raises:
        FormatError: The update contradicts itself, does not fit a parameter, which is named, or is empty.
        UsageError: It is of a kind that cannot be applied, or names a parameter that the checkpoint does not have.
    """
    try:
        changes = READERS[kind](file, parameters)
    except (FormatError, UsageError) as error:
        raise type(error)(f"{file.label}: {error.message}", hint=error.hint) from error
    if not changes:
        raise FormatError(f"{file.label}: an update of nothing")
    return changes
