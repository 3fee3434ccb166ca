"""What an update makes of one parameter: its new value, and the encoding that keeps it in few bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Base, Chunk, Fit, Predictor
from git_theta_ext.model.floats import is_real, round_once, to_float64
from git_theta_ext.registry import find_encoding
from git_theta_ext.store.packs.format import chunk_count, chunk_range
from git_theta_ext.util.threads import ordered_map

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.update.files import Tensor

    Apply = Callable[[TensorSpec, int, memoryview, memoryview], None]

FLOATS = ("F32", "BF16", "F16", "F64")
"""The element types that factors may have."""


@dataclass(frozen=True)
class Change:
    """What an update makes of one parameter.

    Attributes:
        encoding: The encoding that keeps the new value.
        apply: Called with the parameter's spec, the offset of a chunk in bytes, that chunk of the old value and room
            for the new one.
        fit: What the encoding has to know.
    """

    encoding: str
    apply: Apply
    fit: Fit = field(default_factory=Fit)


def new_value(change: Change, spec: TensorSpec, old: memoryview, threads: int) -> bytearray:
    """Return a parameter's value after an update, computed chunk by chunk in threads.

    Args:
        change: What the update makes of it.
        spec: Of the parameter.
        old: Its value before.
        threads: How many.

    Raises:
        FormatError: The update does not fit the parameter.
        CorruptError: An encoding refused the update's factors.
    """
    value = bytearray(spec.nbytes)

    def work(number: int) -> None:
        start, end = chunk_range(spec, number)
        change.apply(spec, start, old[start:end], memoryview(value)[start:end])

    with ThreadPoolExecutor(threads) as executor:
        for _ in ordered_map(executor, work, range(chunk_count(spec)), 2 * threads):
            pass
    return value


def predicted(encoding: str, params: dict[str, Any], *factors: Tensor) -> Change:
    """Return a change whose result is what an encoding predicts.

    Args:
        encoding: Its name.
        params: Its parameters.
        factors: What it needs besides the parent.
    """
    fit = Fit(params, tuple((factor.spec, factor.data) for factor in factors))
    behind = tuple(Base(factor.spec, factor.data) for factor in factors)

    def apply(spec: TensorSpec, offset: int, old: memoryview, out: memoryview) -> None:
        predictor = cast("Predictor", find_encoding(encoding))
        predictor.predict(Chunk(spec, offset, (Base(spec, old), *behind), params), out)

    return Change(encoding, apply, fit)


def replaced(value: Tensor, spec: TensorSpec, name: str) -> Change:
    """Return a change to a given value, rounded to the parameter's element type.

    Raises:
        FormatError: The shapes differ, or the element types do and allow no rounding.
    """
    given = value.spec
    if given.shape != spec.shape:
        raise FormatError(f"parameter {name!r} is {spec}, and the update's {given}: shapes cannot change")
    if given.dtype != spec.dtype and not (is_real(given.dtype) and is_real(spec.dtype)):
        raise FormatError(f"parameter {name!r} is {spec}, and the update's {given}")

    def apply(_: TensorSpec, offset: int, __: memoryview, out: memoryview) -> None:
        start = offset * 8 // spec.dtype.bits * given.dtype.bits // 8
        end = (offset + out.nbytes) * 8 // spec.dtype.bits * given.dtype.bits // 8
        data = value.data[start:end]
        out[:] = data if given.dtype == spec.dtype else round_once(to_float64(data, given.dtype), spec.dtype)

    return Change("delta", apply)


def after(first: Change, second: Change) -> Change:
    """Return the second of two changes, made to what the first one gives."""

    def apply(spec: TensorSpec, offset: int, old: memoryview, out: memoryview) -> None:
        between = memoryview(bytearray(out.nbytes))
        first.apply(spec, offset, old, between)
        second.apply(spec, offset, between, out)

    return Change(second.encoding, apply, second.fit)


def check_float(name: str, spec: TensorSpec) -> None:
    """Refuse a parameter whose values are no real numbers.

    Raises:
        FormatError: The message names the parameter.
    """
    if not is_real(spec.dtype):
        raise FormatError(f"parameter {name!r} is {spec}, which such an update cannot change")


def check_factor(name: str, tensor: Tensor) -> None:
    """Refuse a factor whose element type no encoding reads, or that would ruin what it is applied to.

    Raises:
        FormatError: The message names the tensor.
    """
    import numpy as np

    if tensor.spec.dtype.name not in FLOATS:
        raise FormatError(f"the update's {name!r} is {tensor.spec}; factors are one of {', '.join(FLOATS)}")
    if not np.isfinite(to_float64(tensor.data, tensor.spec.dtype)).all():
        raise FormatError(f"the update's {name!r} holds values that are NaN or infinite")
