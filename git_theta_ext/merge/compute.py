"""Run a merge method over the values of one parameter, piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from git_theta_ext.errors import MergeError, PluginError
from git_theta_ext.model.numbers import components, from_float, is_wide, largest, to_float

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from typing_extensions import Buffer

    from git_theta_ext.interfaces import MergeMethod
    from git_theta_ext.model.tensor import TensorSpec

PIECE_ELEMENTS = 1 << 19
"""Elements merged at a time by elementwise methods; the result does not depend on it."""


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor to merge.

    Attributes:
        side: For messages: ``base``, ``ours``, ``theirs``.
        spec: Element type and shape.
        data: Its bytes in pieces of any size; a piece is used only until the next is asked for.
    """

    side: str
    spec: TensorSpec
    data: Iterable[Buffer]


def merge_tensor(
    method: MergeMethod, base: Source | None, branches: Sequence[Source], piece: int = PIECE_ELEMENTS
) -> bytearray:
    """Merge one parameter.

    Arithmetic is in float32, and in float64 where an input has 64-bit floats.

    Args:
        method: What to run, with its parameters at their defaults.
        base: The common ancestor, None where the method needs none.
        branches: All of one shape; the result has the first one's element type.
        piece: Elements at a time for elementwise methods; others get the whole tensor.

    Returns:
        The merged tensor's bytes.

    Raises:
        MergeError: A value is NaN or infinite, or the result does not fit the element type.
        PluginError: The method returned something else than one tensor of that shape.
    """
    contract = method.contract
    if contract.granularity == "pair":
        raise MergeError(f"method {method.name!r} merges pairs of parameters, not single ones")
    sources = [*([] if base is None else [base]), *branches]
    spec = branches[0].spec
    elements = piece if contract.granularity == "element" else max(1, spec.elements)
    wide = any(is_wide(source.spec.dtype) for source in sources)
    streams = [_pieces(source.data, elements * source.spec.dtype.bits // 8) for source in sources]
    merged = bytearray(spec.nbytes)
    at = 0
    for buffers in zip(*streams, strict=True):
        values = [_finite(source, buffer, wide=wide) for source, buffer in zip(sources, buffers, strict=True)]
        if contract.granularity != "element":
            shape = spec.shape if components(spec.dtype) == 1 else (*spec.shape, components(spec.dtype))
            values = [value.reshape(shape) for value in values]
        result = _call(method, None if base is None else values[0], values[len(sources) - len(branches) :])
        data = _written(result, spec)
        merged[at : at + len(data)] = data
        at += len(data)
    return merged


def _pieces(data: Iterable[Buffer], size: int) -> Iterator[Buffer]:
    """Regroup a stream into pieces of one size, the last one shorter; without a copy where it comes that way."""
    kept = bytearray()
    for buffer in data:
        view = memoryview(buffer).cast("B")
        while view.nbytes:
            if not kept and view.nbytes >= size:
                yield view[:size]
                view = view[size:]
                continue
            take = min(size - len(kept), view.nbytes)
            kept += view[:take]
            view = view[take:]
            if len(kept) == size:
                yield kept
                kept = bytearray()
    if kept:
        yield kept


def _finite(source: Source, buffer: Buffer, *, wide: bool) -> NDArray[Any]:
    import numpy as np

    values = to_float(buffer, source.spec.dtype)
    if not np.isfinite(values).all():
        raise MergeError(f"{source.side} has NaN or infinite values")
    return values.astype(np.float64) if wide else values


def _call(method: MergeMethod, base: NDArray[Any] | None, branches: Sequence[NDArray[Any]]) -> NDArray[Any]:
    import torch

    tensors = [torch.from_numpy(branch) for branch in branches]
    params: Mapping[str, float] = dict(method.contract.parameters)
    result = method(None if base is None else torch.from_numpy(base), tensors, params)
    if not isinstance(result, torch.Tensor) or result.shape != tensors[0].shape or result.dtype != tensors[0].dtype:
        raise PluginError(f"method {method.name!r} returned something else than a tensor like its branches")
    found: NDArray[Any] = result.detach().numpy()
    return found


def _written(values: NDArray[Any], spec: TensorSpec) -> bytes:
    import numpy as np

    # Not the cast's own overflow: an 8-bit float may saturate silently.
    if not np.isfinite(values).all() or np.abs(values).max(initial=0) > largest(spec.dtype):
        raise MergeError(f"the result does not fit {spec.dtype.name}")
    return from_float(values, spec.dtype)
