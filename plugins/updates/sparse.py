"""Single elements: for a parameter ``NAME`` the tensors ``NAME.indices`` and ``NAME.values``.

Indices are flat, [n], or have a number for each dimension, [n, dimensions]. The ``mode`` in the metadata is ``set``,
which is the default, or ``add``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import (
    ParameterNames,
    ParameterUpdate,
    TensorSpec,
    UpdateFile,
    UpdateKind,
    UpdateTensor,
    check_float_parameter,
    round_once,
    to_float64,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


_INDICES, _VALUES = ".indices", ".values"
_INTEGERS = {"I64": "<i8", "I32": "<i4"}
_MODES = ("set", "add")
_MATRIX = 2


def read_sparse(file: UpdateFile, parameters: Mapping[str, TensorSpec]) -> dict[str, ParameterUpdate]:
    """Return the changes of a checkpoint's parameters by a sparse update.

    Args:
        file: Indices and values.
        parameters: The parameters of the checkpoint.

    Returns:
        The change of each parameter, by its name in the checkpoint.

    Raises:
        FormatError: An index is outside its parameter or occurs twice, or the file contradicts itself.
        UsageError: The file names a parameter that the checkpoint does not have.
    """
    mode = file.metadata.get("mode", "set")
    if mode not in _MODES:
        raise FormatError(f"mode {mode[:40]!r} in its metadata; it is one of {', '.join(_MODES)}")
    names = ParameterNames(parameters)
    changes: dict[str, ParameterUpdate] = {}
    for key in file.tensors:
        stem = key.removesuffix(_INDICES).removesuffix(_VALUES)
        if stem == key or not {stem + _INDICES, stem + _VALUES} <= set(file.tensors):
            raise FormatError(f"{key!r} does not belong to a pair NAME{_INDICES} and NAME{_VALUES}")
        if key.endswith(_VALUES):
            continue
        name = names.get(stem)
        if name in changes:
            raise FormatError(f"two values for {name!r}")
        changes[name] = _change(name, parameters[name], file.tensors[key], file.tensors[stem + _VALUES], mode)
    return changes


KIND = UpdateKind(read_sparse)


def _change(name: str, spec: TensorSpec, indices: UpdateTensor, values: UpdateTensor, mode: str) -> ParameterUpdate:
    import numpy as np

    if spec.dtype.bits % 8:
        raise FormatError(f"parameter {name!r} is {spec}, whose elements are not whole bytes")
    if mode == "add":
        check_float_parameter(name, spec)
    positions = _flat_indices(name, spec, indices)
    if values.spec.dtype != spec.dtype or values.spec.elements != positions.size:
        raise FormatError(
            f"parameter {name!r} is {spec}, but there are {positions.size} indices and the values are {values.spec}"
        )
    order = np.argsort(positions)
    positions = positions[order]
    if np.any(positions[1:] == positions[:-1]):
        raise FormatError(f"parameter {name!r}: an element is updated twice")
    width = spec.dtype.bits // 8
    elements = np.frombuffer(values.data, np.dtype((np.void, width)))[order]

    def apply(_: TensorSpec, offset: int, old: memoryview, out: memoryview) -> None:
        out[:] = old
        first, last = np.searchsorted(positions, (offset // width, (offset + out.nbytes) // width))
        updated = positions[first:last] - offset // width
        fresh = elements[first:last]
        if mode == "add" and updated.size:
            sums = to_float64(memoryview(_elements(old, width)[updated].tobytes()), spec.dtype)
            sums += to_float64(memoryview(fresh.tobytes()), spec.dtype)
            fresh = np.frombuffer(round_once(sums, spec.dtype), fresh.dtype)
        np.frombuffer(out, fresh.dtype)[updated] = fresh

    return ParameterUpdate("delta", apply=apply)


def _elements(data: memoryview, width: int) -> NDArray[Any]:
    import numpy as np

    return np.frombuffer(data, np.dtype((np.void, width)))


def _flat_indices(name: str, spec: TensorSpec, indices: UpdateTensor) -> NDArray[Any]:
    """Return the flat indices, each of which is inside the parameter."""
    import numpy as np

    kind = _INTEGERS.get(indices.spec.dtype.name)
    shape = indices.spec.shape
    several = len(shape) == _MATRIX and shape[1] == len(spec.shape)
    if kind is None or not (len(shape) == 1 or several):
        raise FormatError(
            f"parameter {name!r} is {spec}, but its indices are {indices.spec}: neither [n] nor [n, dimensions]"
        )
    if shape[0] > spec.elements:
        raise FormatError(f"parameter {name!r} is {spec}, but there are {shape[0]} indices")
    positions = np.frombuffer(indices.data, kind).astype(np.int64)
    limits = spec.shape if several else (spec.elements,)
    positions = positions.reshape(-1, len(limits)) if limits else np.zeros((shape[0], 0), np.int64)
    if positions.size and (positions.min() < 0 or bool((positions >= np.array(limits)).any())):
        raise FormatError(f"parameter {name!r}: an index lies outside {list(spec.shape)}")
    strides = [math.prod(limits[axis + 1 :]) for axis in range(len(limits))]
    flat: NDArray[Any] = positions @ np.array(strides, np.int64)
    return flat
