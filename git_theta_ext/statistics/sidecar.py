"""The layout of statistics: a safetensors file next to the checkpoint (docs/statistics.md)."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.records import dataclass
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
    """The metadata of statistics.

    Attributes:
        samples: The number of examples, or None if it is unknown.
        values: The digest of the values that they were collected with, empty if it is unknown.
    """

    samples: int | None = None
    values: str = ""


def facts_of(header: Content) -> Facts:
    """Read the metadata of statistics from the beginning of their file; empty for other files."""
    length = int.from_bytes(header[:8], "little")
    if length > min(_MOST_HEADER, header.nbytes - 8):
        return Facts()
    try:
        metadata = read_json(str(header[8 : 8 + length], "utf-8")).get("__metadata__", {})
        samples, values = metadata.get("samples", ""), metadata.get(CHECKPOINT, "")
    except (ValueError, AttributeError):
        return Facts()
    is_count = isinstance(samples, str) and samples.isdecimal() and len(samples) < 16  # noqa: PLR2004 - enough
    return Facts(int(samples) if is_count else None, values if isinstance(values, str) else "")


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
        FormatError: A statistic has an unknown kind, or does not fit a parameter; the message names it.
    """
    for name, spec in statistics.items():
        kind, _, parameter = name.partition("/")
        if not are_kinds([kind]):
            raise FormatError(
                f"statistic {name!r} has an unknown kind", hint=f"kinds are {', '.join(names('statistics'))}"
            )
        if parameter not in parameters:
            raise FormatError(
                f"statistic {name!r} does not belong to a parameter of the checkpoint",
                hint="parameters have the names that git theta ls-files --params shows",
            )
        shape = find_statistics(kind).shape(parameters[parameter].shape)
        if shape is None:
            raise FormatError(f"statistic {name!r} belongs to a parameter that is not the weight of a Linear")
        if spec.shape != shape or spec.dtype.name not in _TYPES:
            expected = " or ".join(_TYPES)
            raise FormatError(f"statistic {name!r} is {spec}, not {expected} [{','.join(map(str, shape))}]")
