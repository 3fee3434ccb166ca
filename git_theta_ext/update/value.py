"""Compute what an update makes of one parameter."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

from git_theta_ext.interfaces import Base, Chunk, Predictor
from git_theta_ext.registry import find_encoding
from git_theta_ext.store.packs.format import chunk_count, chunk_range
from git_theta_ext.util.threads import ordered_map

if TYPE_CHECKING:
    from git_theta_ext.interfaces import ParameterUpdate
    from git_theta_ext.model.tensor import TensorSpec


def new_value(update: ParameterUpdate, spec: TensorSpec, old: memoryview, threads: int) -> bytearray:
    """Return a parameter's value after an update, computed chunk by chunk in threads.

    Args:
        update: What the update makes of it.
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
        _apply(update, spec, start, old[start:end], memoryview(value)[start:end])

    with ThreadPoolExecutor(threads) as executor:
        for _ in ordered_map(executor, work, range(chunk_count(spec)), 2 * threads):
            pass
    return value


def _apply(update: ParameterUpdate, spec: TensorSpec, offset: int, old: memoryview, out: memoryview) -> None:
    """Write one chunk of the new value to ``out``."""
    if update.start is not None:
        between = memoryview(bytearray(out.nbytes))
        _apply(update.start, spec, offset, old, between)
        old = between
    if update.apply is not None:
        update.apply(spec, offset, old, out)
        return
    factors = (Base(factor, memoryview(data)) for factor, data in update.fit.tensors)
    predictor = cast("Predictor", find_encoding(update.encoding))
    predictor.predict(Chunk(spec, offset, (Base(spec, old), *factors), update.fit.params), out)
