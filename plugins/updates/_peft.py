"""What the adapters of Hugging Face PEFT have in common, whatever their kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.interfaces import ParameterUpdate, UpdateFile


PREFIX = "base_model.model."
"""What PEFT puts before a module's name."""

_BASE = ".base_layer"
_WRAPPERS = (_BASE, ".modules_to_save.default", ".modules_to_save")


def once(found: dict[str, Any], key: str, value: object) -> None:
    """Note a value under a key that has none yet.

    Raises:
        FormatError: It has one.
    """
    if key in found:
        raise FormatError(f"two values for {key!r}")
    found[key] = value


def unwrapped(key: str) -> str:
    """Return the name that a tensor or module of an adapter has in the model without the adapter."""
    name = key.removeprefix(PREFIX)
    for wrapper in _WRAPPERS:
        name = name.replace(f"{wrapper}.", ".").removesuffix(wrapper)
    return name


def is_start(key: str) -> bool:
    """Return whether a tensor is the start of an adapted module: PEFT saves those of embeddings and heads as well."""
    return f"{_BASE}." in key


def from_starts(
    changes: Mapping[str, ParameterUpdate], starts: Mapping[str, ParameterUpdate]
) -> dict[str, ParameterUpdate]:
    """Return changes to what their modules began with, if an adapter has it."""
    begun = {name: replace(changes[name], start=start) if name in changes else start for name, start in starts.items()}
    return {**changes, **begun}


def flag(file: UpdateFile, key: str) -> bool:
    """Return a setting of an adapter that is on or off, off if it is missing.

    Raises:
        FormatError: It is something else.
    """
    value = (file.config or {}).get(key) or False
    if not isinstance(value, bool):
        raise FormatError(f"{key} is {value!r:.40}, not true or false")
    return value
