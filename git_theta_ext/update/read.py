"""Read an update of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.registry import find_update

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.interfaces import ParameterUpdate, UpdateFile
    from git_theta_ext.model.tensor import TensorSpec


def read_changes(kind: str, file: UpdateFile, parameters: Mapping[str, TensorSpec]) -> Mapping[str, ParameterUpdate]:
    """Return what an update makes of a checkpoint's parameters.

    Args:
        kind: Name of the kind, such as ``lora``.
        file: What the update holds.
        parameters: The checkpoint's.

    Returns:
        An update of each parameter that it names, by its name in the checkpoint; at least one.

    Raises:
        PluginError: No such kind is installed.
        FormatError: The update contradicts itself, does not fit a parameter, which is named, or is empty.
        UsageError: It is of a kind that cannot be applied, or names a parameter that the checkpoint does not have.
    """
    try:
        changes = find_update(kind).read(file, parameters)
    except (FormatError, UsageError) as error:
        raise type(error)(f"{file.label}: {error.message}", hint=error.hint) from error
    if not changes:
        raise FormatError(f"{file.label}: the update is empty")
    return changes
