"""Conventions that all kinds of Hugging Face PEFT adapters share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.interfaces import ParameterUpdate, UpdateFile


PREFIX = "base_model.model."
"""The prefix that PEFT adds to the names of modules."""

_BASE = ".base_layer"
_WRAPPERS = (_BASE, ".modules_to_save.default", ".modules_to_save")


def once(values: dict[str, Any], key: str, value: object) -> None:
    """Add a value under a key that must not have one yet.

    Raises:
        FormatError: The key has a value.
    """
    if key in values:
        raise FormatError(f"two values for {key!r}")
    values[key] = value


def unwrapped(key: str) -> str:
    """Return the name of an adapter's tensor or module in the model without the adapter."""
    name = key.removeprefix(PREFIX)
    for wrapper in _WRAPPERS:
        name = name.replace(f"{wrapper}.", ".").removesuffix(wrapper)
    return name


def is_start(key: str) -> bool:
    """Return whether a tensor is the base weight of an adapted module, which PEFT saves for embeddings and heads."""
    return f"{_BASE}." in key


def from_starts(
    changes: Mapping[str, ParameterUpdate], starts: Mapping[str, ParameterUpdate]
) -> dict[str, ParameterUpdate]:
    """Return changes that are applied to the base weights in the adapter, if it has them."""
    begun = {name: replace(changes[name], start=start) if name in changes else start for name, start in starts.items()}
    return {**changes, **begun}


def flag(file: UpdateFile, key: str) -> bool:
    """Return a boolean setting of an adapter, False if it is missing.

    Raises:
        FormatError: The setting is not a boolean.
    """
    value = (file.config or {}).get(key) or False
    if not isinstance(value, bool):
        raise FormatError(f"{key} is {value!r:.40}, not true or false")
    return value
