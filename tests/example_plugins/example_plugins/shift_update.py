"""Updates that add one number to all elements: a scalar NAME.shift for a parameter NAME."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import (
    ParameterNames,
    ParameterUpdate,
    UpdateKind,
    check_factor,
    check_float_parameter,
    predicted_update,
    to_float64,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.interfaces import TensorSpec, UpdateFile


def read(file: UpdateFile, parameters: Mapping[str, TensorSpec]) -> dict[str, ParameterUpdate]:
    """Return what the file does to each parameter that it names, stored by the encoding ``shift``."""
    names = ParameterNames(parameters)  # finds layer.weight also as model.layer.weight, if only one fits
    updates: dict[str, ParameterUpdate] = {}
    for key, tensor in file.tensors.items():
        if not key.endswith(".shift") or tensor.spec.elements != 1:
            raise FormatError(f"{key!r} is not NAME.shift with one number")
        name = names.get(key.removesuffix(".shift"))
        if name in updates:
            raise FormatError(f"two shifts of {name!r}")
        check_float_parameter(name, parameters[name])
        check_factor(key, tensor)
        amount = float(to_float64(tensor.data, tensor.spec.dtype)[0])
        updates[name] = predicted_update("shift", {"amount": amount})
    return updates


KIND = UpdateKind(read)
