"""Apply an update to a checkpoint's parameters, or detect that it was applied before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, FormatError, UsageError
from git_theta_ext.model.floats import is_real, to_float64
from git_theta_ext.model.tensor import tensor_digest
from git_theta_ext.records import dataclass
from git_theta_ext.store.deltas.encode import DeltaHint
from git_theta_ext.update.value import new_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from typing_extensions import Buffer

    from git_theta_ext.interfaces import ParameterUpdate
    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.store.store import Store

_EXPLAINED = 0.25
"""The share of the squared change of a parameter that an update may leave unexplained."""


@dataclass(frozen=True)
class CheckpointUpdate:
    """An update of a checkpoint, and the values that it applies to.

    Attributes:
        changes: By parameter.
        base: The parameters that the update is of.
        current: The parameters in the file; those that the update names have the base's type and shape.
        value: Returns a parameter's bytes in the file.
    """

    changes: Mapping[str, ParameterUpdate]
    base: Mapping[str, Parameter]
    current: Mapping[str, Parameter]
    value: Callable[[str], memoryview]


@dataclass(frozen=True)
class Updated:
    """A parameter after an update.

    Attributes:
        name: The parameter's.
        spec: Its element type and shape.
        data: Its bytes.
        hint: How it is held in few bytes.
        exact: Whether it is what the update gives, to the bit.
    """

    name: str
    spec: TensorSpec
    data: Buffer
    hint: DeltaHint
    exact: bool


def is_applied(update: CheckpointUpdate, store: Store) -> bool:
    """Return whether a file already contains an update: no parameter that it changes equals the base.

    Raises:
        UsageError: Some are and some are not.
    """
    same = [name for name in update.changes if update.current[name].digest == update.base[name].digest]
    moved = [name for name in update.changes if name not in set(same)]
    if not moved:
        return False
    for name in same:
        base = update.base[name]
        if tensor_digest(base.spec, _result(update, name, update.value(name), store.threads)) != base.digest:
            raise UsageError(
                f"the update is only partly applied: parameter {moved[0]!r} differs from HEAD, but {name!r} does not",
                hint="git checkout HEAD -- PATH, or git commit -a to keep the file; then add the update",
            )
    return True


def results(update: CheckpointUpdate, store: Store, *, applied: bool) -> Iterator[Updated]:
    """Yield the parameters that an update names, with their new values, one in memory at a time.

    Args:
        update: What to do.
        store: Holds the base's values.
        applied: The result of ``is_applied``.

    Raises:
        FormatError: The update does not fit a parameter, which is named.
        UsageError: A parameter is neither the result of the update nor close to it.
        MissingError: A value of the base is not in the store.
    """
    for name, change in update.changes.items():
        base = update.base[name]
        hint = DeltaHint(change.encoding, base.digest, base.spec, change.fit)
        if not applied:
            yield Updated(name, base.spec, _result(update, name, update.value(name), store.threads), hint, exact=True)
            continue
        before = memoryview(store.read(base.digest, base.spec))
        result, value = _result(update, name, before, store.threads), update.value(name)
        exact = result == value
        if not exact and not _explains(base.spec, before, value, memoryview(result)):
            raise UsageError(
                f"parameter {name!r} is neither HEAD's value nor the result of the update",
                hint="git theta add PATH && git commit, if it has another update; then add this one",
            )
        yield Updated(name, base.spec, value, hint, exact)


def _result(update: CheckpointUpdate, name: str, before: memoryview, threads: int) -> bytearray:
    try:
        return new_value(update.changes[name], update.base[name].spec, before, threads)
    except CorruptError as error:
        raise FormatError(f"the update of parameter {name!r} does not fit: {error.message}") from error


def _explains(spec: TensorSpec, before: memoryview, value: memoryview, result: memoryview) -> bool:
    """Return whether a value is much nearer to the result of an update than to the old value."""
    import numpy as np

    if not is_real(spec.dtype):
        return False
    changed = missed = 0.0
    for start in range(0, spec.nbytes, spec.chunk_bytes):
        old, new, made = (
            to_float64(values[start : start + spec.chunk_bytes], spec.dtype) for values in (before, value, result)
        )
        with np.errstate(over="ignore", invalid="ignore"):
            changed += float(np.nansum((new - old) ** 2))
            missed += float(np.nansum((new - made) ** 2))
    return missed <= _EXPLAINED * changed
