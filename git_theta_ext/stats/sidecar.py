"""Layout of statistics: a safetensors file beside the checkpoint (docs/statistics.md)."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_theta_ext.model.tensor import TensorSpec

FORMAT = "git-theta-stats 1"
"""Value of ``format`` in the file's metadata."""

FISHER, GRAM, GRAD_GRAM = "fisher", "gram", "grad_gram"
KINDS = (FISHER, GRAM, GRAD_GRAM)

_SUFFIX = ".stats.safetensors"
_TYPES = ("F32", "F64")
_MATRIX = 2


def sidecar_of(checkpoint: str) -> str:
    """Return the path of a checkpoint's statistics: ``model.stats.safetensors`` for ``model.safetensors``."""
    return posixpath.splitext(checkpoint)[0] + _SUFFIX


def statistic(kind: str, parameter: str) -> str:
    """Return the name of the tensor that holds a kind of statistics of a parameter."""
    return f"{kind}/{parameter}"


def check(statistics: Mapping[str, TensorSpec], parameters: Mapping[str, TensorSpec]) -> None:
    """Compare statistics with the checkpoint that they are of.

    Args:
        statistics: The sidecar's tensors.
        parameters: The checkpoint's tensors.

    Raises:
        FormatError: A statistic is of no known kind, of no parameter, or does not fit it; the message names it.
    """
    for name, spec in statistics.items():
        kind, _, parameter = name.partition("/")
        if kind not in KINDS:
            raise FormatError(f"statistic {name!r} is of no known kind", hint=f"kinds are {', '.join(KINDS)}")
        if parameter not in parameters:
            raise FormatError(
                f"statistic {name!r} is of no parameter of the checkpoint",
                hint="parameters have the names that git theta ls-files -l shows",
            )
        shape = _shape(kind, parameters[parameter].shape)
        if shape is None:
            raise FormatError(f"statistic {name!r} is of a parameter that is no weight of a Linear")
        if spec.shape != shape or spec.dtype.name not in _TYPES:
            expected = " or ".join(_TYPES)
            raise FormatError(f"statistic {name!r} is {spec}, not {expected} [{','.join(map(str, shape))}]")


def _shape(kind: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape of a statistic of a parameter; None where there can be none."""
    if kind == FISHER:
        return shape
    if len(shape) != _MATRIX:
        return None
    outputs, inputs = shape
    return (inputs, inputs) if kind == GRAM else (outputs, outputs)
