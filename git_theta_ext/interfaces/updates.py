"""Read an update of a checkpoint from a file: the interface of kinds of updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces.encodings import Fit
from git_theta_ext.model.floats import is_real, round_once, to_float64
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.records import dataclass, field

Apply = Callable[[TensorSpec, int, memoryview, memoryview], None]
"""Called with a parameter's spec, the offset of a chunk in bytes, that chunk's old bytes, and room for the new ones."""

FACTOR_TYPES = ("F32", "BF16", "F16", "F64")
"""The element types that encodings read factors of."""


@dataclass(frozen=True, slots=True)
class UpdateTensor:
    """A tensor of an update.

    Attributes:
        spec: Its element type and shape.
        data: Its little-endian bytes.
    """

    spec: TensorSpec
    data: memoryview


@dataclass(frozen=True)
class UpdateFile:
    """The content of an update file.

    Attributes:
        label: Its name in messages.
        tensors: By name.
        metadata: The texts of its header.
        config: The content of ``adapter_config.json`` in the same directory; None if there is none.
    """

    label: str
    tensors: Mapping[str, UpdateTensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ParameterUpdate:
    """What an update makes of one parameter, and how the result is stored.

    Attributes:
        encoding: The encoding that stores the new value, given the old one.
        fit: The parameters of the encoding and the tensors that it needs besides the old value.
        apply: Computes the new value. None if it is what the encoding predicts; see ``predicted_update``.
        start: An update that is applied first, such as one that replaces the old value.
    """

    encoding: str
    fit: Fit = field(default_factory=Fit)
    apply: Apply | None = None
    start: ParameterUpdate | None = None


@dataclass(frozen=True)
class UpdateKind:
    """A plug-in for a kind of updates, the KIND of ``git theta add --update KIND=FILE``.

    Attributes:
        read: Returns the updates in a file by the name of the parameter, given the specs of the checkpoint's
            parameters; looks at nothing else. Raises ``FormatError``, which names the parameter, if the file
            contradicts itself or does not fit a parameter, and ``UsageError`` if it cannot be applied or names a
            parameter that the checkpoint does not have; see ``ParameterNames``.
    """

    read: Callable[[UpdateFile, Mapping[str, TensorSpec]], Mapping[str, ParameterUpdate]]


def predicted_update(encoding: str, params: Mapping[str, Any], *factors: UpdateTensor) -> ParameterUpdate:
    """Return an update whose result is what an encoding predicts; stored, it takes little more than its factors.

    Args:
        encoding: The name of an encoding that has ``predict``; see ``Predictor``.
        params: Its parameters.
        factors: The tensors that it needs besides the old value.
    """
    return ParameterUpdate(encoding, Fit(params, tuple((factor.spec, factor.data) for factor in factors)))


def replacing_update(value: UpdateTensor, spec: TensorSpec, name: str) -> ParameterUpdate:
    """Return an update to a given value, rounded to the parameter's element type.

    Args:
        value: The new value.
        spec: Of the parameter.
        name: Of the parameter, for messages.

    Raises:
        FormatError: The shapes differ, or the element types do and allow no rounding.
    """
    new_spec = value.spec
    if new_spec.shape != spec.shape:
        raise FormatError(f"parameter {name!r} is {spec}, and the update's {new_spec}: shapes cannot change")
    if new_spec.dtype != spec.dtype and not (is_real(new_spec.dtype) and is_real(spec.dtype)):
        raise FormatError(f"parameter {name!r} is {spec}, and the update's {new_spec}")

    def apply(_: TensorSpec, offset: int, __: memoryview, out: memoryview) -> None:
        start = offset * 8 // spec.dtype.bits * new_spec.dtype.bits // 8
        end = (offset + out.nbytes) * 8 // spec.dtype.bits * new_spec.dtype.bits // 8
        data = value.data[start:end]
        out[:] = data if new_spec.dtype == spec.dtype else round_once(to_float64(data, new_spec.dtype), spec.dtype)

    return ParameterUpdate("delta", apply=apply)


def check_float_parameter(name: str, spec: TensorSpec) -> None:
    """Refuse a parameter whose elements are not real floats.

    Raises:
        FormatError: The message names the parameter.
    """
    if not is_real(spec.dtype):
        raise FormatError(f"parameter {name!r} is {spec}, which such an update cannot change")


def check_factor(name: str, tensor: UpdateTensor) -> None:
    """Refuse a factor whose element type no encoding reads, or that has NaN or infinite values.

    Raises:
        FormatError: The message names the tensor.
    """
    import numpy as np

    if tensor.spec.dtype.name not in FACTOR_TYPES:
        raise FormatError(f"the update's {name!r} is {tensor.spec}; factors are one of {', '.join(FACTOR_TYPES)}")
    if not np.isfinite(to_float64(tensor.data, tensor.spec.dtype)).all():
        raise FormatError(f"the update's {name!r} has values that are NaN or infinite")
