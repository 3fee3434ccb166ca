"""What the adapters of Hugging Face PEFT have in common, whatever their kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError

if TYPE_CHECKING:
    from git_theta_ext.update.files import UpdateFile

PREFIX = "base_model.model."
"""What PEFT puts before a module's name."""

_WRAPPERS = (".base_layer", ".modules_to_save.default", ".modules_to_save")


def once(found: dict[str, Any], key: str, value: object, label: str) -> None:
    """Note a value under a key that has none yet.

    Raises:
        FormatError: It has one.
    """
    if key in found:
        raise FormatError(f"{label}: two values for {key!r}")
    found[key] = value


def unwrapped(key: str) -> str:
    """Return the name that a tensor or module of an adapter has in the model without the adapter."""
    name = key.removeprefix(PREFIX)
    for wrapper in _WRAPPERS:
        name = name.replace(f"{wrapper}.", ".").removesuffix(wrapper)
    return name


def flag(file: UpdateFile, key: str) -> bool:
    """Return a setting of an adapter that is on or off, off where it is not there.

    Raises:
        FormatError: It is something else.
    """
    value = (file.config or {}).get(key) or False
    if not isinstance(value, bool):
        raise FormatError(f"{file.label}: {key} is {value!r:.40}, not true or false")
    return value
