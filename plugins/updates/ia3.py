"""Scaled rows or columns, as PEFT saves them: IA3 (Liu et al., 2022, https://arxiv.org/abs/2205.05638).

PEFT saves a tensor ``ia3_l`` for each module: [out, 1] if outputs are scaled, including the bias, and [1, in] if inputs
are scaled, as in feed-forward modules. Plain vectors ``NAME.scale`` scale the parameter ``NAME``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.interfaces import (
    ParameterNames,
    ParameterUpdate,
    TensorSpec,
    UpdateFile,
    UpdateKind,
    UpdateTensor,
    check_factor,
    check_float_parameter,
    predicted_update,
    replacing_update,
)

from ._peft import flag, from_starts, is_start, once, unwrapped

if TYPE_CHECKING:
    from collections.abc import Mapping


_VECTOR = re.compile(r"(?P<module>.+)\.ia3_l(?:\.default)?(?:\.weight)?")
_SCALE = ".scale"
_MATRIX = 2


def read_ia3(file: UpdateFile, parameters: Mapping[str, TensorSpec]) -> dict[str, ParameterUpdate]:
    """Return the changes of a checkpoint's parameters by an IA3 adapter or a file of plain vectors.

    Args:
        file: The vectors, with the adapter's configuration if there is one.
        parameters: The parameters of the checkpoint.

    Returns:
        The change of each parameter, by its name in the checkpoint.

    Raises:
        FormatError: The adapter contradicts itself, or does not fit a parameter. The message names the parameter.
        UsageError: The file names a parameter that the checkpoint does not have, or it is ambiguous whether a vector
            scales rows or columns.
    """
    kind = str((file.config or {}).get("peft_type", "IA3")).upper()
    if kind != "IA3":
        raise UsageError(f"the adapter is of kind {kind[:40]!r}, not IA3")
    names = ParameterNames(parameters)
    changes: dict[str, ParameterUpdate] = {}
    starts: dict[str, ParameterUpdate] = {}
    for key, tensor in file.tensors.items():
        match = _VECTOR.fullmatch(key)
        if match is not None:
            module = unwrapped(match["module"])
            name = names.get(f"{module}.weight")
            axis = _axis(file, key, tensor, parameters[name], module)
            once(changes, name, _scaled(name, parameters[name], tensor, axis))
            rows = axis == (1 if flag(file, "fan_in_fan_out") else 0)
            bias = names.find(f"{module}.bias") if rows else None
            if bias is not None:
                once(changes, bias, _scaled(bias, parameters[bias], tensor, 0))
        elif key.endswith(_SCALE):
            name = names.get(key.removesuffix(_SCALE))
            axis = _axis(file, key, tensor, parameters[name], name)
            once(changes, name, _scaled(name, parameters[name], tensor, axis))
        else:
            name = names.get(unwrapped(key))
            once(starts if is_start(key) else changes, name, replacing_update(tensor, parameters[name], name))
    return from_starts(changes, starts)


KIND = UpdateKind(read_ia3)


def _axis(file: UpdateFile, key: str, vector: UpdateTensor, spec: TensorSpec, module: str) -> int:
    """Return the axis of a parameter along which a vector has one number for each index."""
    long = [axis for axis, size in enumerate(vector.spec.shape) if size != 1]
    if len(long) > 1 or not vector.spec.elements:
        raise FormatError(f"{key!r} is {vector.spec}, not a vector")
    dimensions = len(vector.spec.shape)
    transposed = flag(file, "fan_in_fan_out") and key != f"{module}{_SCALE}"
    if dimensions == _MATRIX and vector.spec.shape != (1, 1):
        return long[0] ^ transposed
    fitting = [axis for axis, size in enumerate(spec.shape[:_MATRIX]) if size == vector.spec.elements]
    if len(fitting) == 1:
        return fitting[0]
    feedforward = (file.config or {}).get("feedforward_modules")
    if fitting and isinstance(feedforward, list):
        inputs = any(isinstance(end, str) and module.endswith(end) for end in feedforward)
        return int(inputs ^ transposed)
    if fitting:
        raise UsageError(
            f"{key!r} may scale the rows or the columns of {spec}",
            hint="give it the shape [rows, 1] or [1, columns], or list feedforward_modules in adapter_config.json",
        )
    raise FormatError(f"{key!r} has {vector.spec.elements} numbers, which do not fit {spec}")


def _scaled(name: str, spec: TensorSpec, vector: UpdateTensor, axis: int) -> ParameterUpdate:
    check_float_parameter(name, spec)
    check_factor(name, vector)
    size = spec.shape[axis] if axis < len(spec.shape) else 0
    if size != vector.spec.elements:
        raise FormatError(f"{vector.spec.elements} numbers do not fit axis {axis} of {name!r}, which is {spec}")
    flat = UpdateTensor(TensorSpec(vector.spec.dtype, (size,)), vector.data)
    return predicted_update("scale", {"axis": axis}, flat)
