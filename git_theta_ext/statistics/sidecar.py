"""Layout of statistics: a safetensors file beside the checkpoint (docs/statistics.md)."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.registry import find_statistics, names
from git_theta_ext.statistics.kinds import are_kinds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from git_theta_ext.model.content import Content
    from git_theta_ext.model.tensor import TensorSpec

FORMAT = "git-theta-stats 1"
"""Value of ``format`` in the file's metadata."""

CHECKPOINT = "checkpoint"
"""Key of the metadata that names the values which the statistics were collected with."""

_MOST_HEADER = 1 << 27
_SUFFIX = ".stats.safetensors"
_TYPES = ("F32", "F64")


@dataclass(frozen=True)
class Facts:
    """What statistics say of themselves.

    Attributes:
        samples: Number of examples, None where that is not told.
        values: Digest of the values that they were collected with, empty where that is not told.
    """

    samples: int | None = None
    values: str = ""


def facts_of(header: Content) -> Facts:
    """Read what statistics say of themselves from the beginning of their file; nothing where it is none."""
    length = int.from_bytes(header[:8], "little")
    if length > min(_MOST_HEADER, header.nbytes - 8):
        return Facts()
    try:
        told = read_json(str(header[8 : 8 + length], "utf-8")).get("__metadata__", {})
        samples, values = told.get("samples", ""), told.get(CHECKPOINT, "")
    except (ValueError, AttributeError):
        return Facts()
    known = isinstance(samples, str) and samples.isdecimal() and len(samples) < 16  # noqa: PLR2004 - enough
    return Facts(int(samples) if known else None, values if isinstance(values, str) else "")


def is_statistics(parameters: Iterable[str]) -> bool:
    """Return whether a checkpoint's parameters are statistics of another one."""
    parts = [name.partition("/") for name in parameters]
    return bool(parts) and all(slash for _, slash, _ in parts) and are_kinds({kind for kind, _, _ in parts})


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
        if not are_kinds([kind]):
            raise FormatError(
                f"statistic {name!r} is of no known kind", hint=f"kinds are {', '.join(names('statistics'))}"
            )
        if parameter not in parameters:
            raise FormatError(
                f"statistic {name!r} is of no parameter of the checkpoint",
                hint="parameters have the names that git theta ls-files --params shows",
            )
        shape = find_statistics(kind).shape(parameters[parameter].shape)
        if shape is None:
            raise FormatError(f"statistic {name!r} is of a parameter that is no weight of a Linear")
        if spec.shape != shape or spec.dtype.name not in _TYPES:
            expected = " or ".join(_TYPES)
            raise FormatError(f"statistic {name!r} is {spec}, not {expected} [{','.join(map(str, shape))}]")
