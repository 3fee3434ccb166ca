"""Code the residual of a prediction: the code that all encodings with a parent share.

Bit patterns are subtracted as unsigned integers, which is lossless for all values, and the sign of the difference moves
to its lowest bit. Runs of elements that are all predicted exactly are left out. The others are grouped by the exponent
of the prediction: training moves parameters by steps of similar absolute size, so the difference in units in the last
place depends on the exponent. Bytes of quantised blocks are grouped by their position in the block. Neighbouring groups
form stripes, and each stripe has its own code.

A payload is a single zero if the prediction is exact, and 128 followed by a dense payload if the prediction is useless.
Otherwise it consists of a byte with the number of stripes, whose highest bit is set if runs are left out; a record for
each stripe; the map of runs; and the planes of all stripes.
"""

from __future__ import annotations

import struct
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from git_theta_ext.coding import kernels
from git_theta_ext.coding.arrays import as_integers, scratch
from git_theta_ext.coding.dense import decode_dense, encode_dense
from git_theta_ext.coding.planes import (
    block_width,
    code_all,
    code_symbols,
    integer_width,
    payload_size,
    write_planes,
)
from git_theta_ext.coding.stored_planes import read_planes, read_some_planes
from git_theta_ext.coding.stripe_plan import arrangement_limits, plan, sample_size
from git_theta_ext.coding.stripes import LAST_KEY, SYMBOL_BITS, Stripe, decode_stripes, encode_stripes, group
from git_theta_ext.errors import CorruptError
from git_theta_ext.records import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import TensorSpec

    Runs = npt.NDArray[np.bool_]
    Arranged = tuple[bytes, Buffer | None, Sequence[memoryview]]
    """The head of a payload, the map of runs, if there is one, and the planes."""


class Coded(NamedTuple):
    """A payload with stripes: its head, the map of runs, if there is one, and all after that."""

    head: memoryview
    runs_map: Buffer
    planes: memoryview


_EQUAL = b"\0"
_DENSE = b"\x80"
_GAPS = 0x80
_RECORD = struct.Struct("<BBBBI")
_RUN = 64
_SUSPECT = 0.6  # share of the bytes above which a dense payload is often smaller
_GAPS_WORTH = 0.9  # share of runs that remain above which copying them costs more than it saves


def encode_residual(spec: TensorSpec, data: memoryview, predicted: memoryview) -> list[Buffer]:
    """Encode the bytes of a chunk against a prediction.

    Args:
        spec: Element type and shape of the whole tensor.
        data: The chunk's little-endian bytes.
        predicted: The predicted bytes, as many as in ``data``.

    Returns:
        The pieces of the payload; one byte if the bytes are equal.
    """
    pieces = _encode(spec, data, predicted)
    if payload_size(pieces) > _SUSPECT * data.nbytes:
        return min(pieces, [_DENSE, *encode_dense(spec, data)], key=payload_size)
    return pieces


def _encode(spec: TensorSpec, data: memoryview, predicted: memoryview) -> list[Buffer]:
    arrange = _arrange_with_numpy if kernels.residuals is None else _arrange_compiled
    made = arrange(spec, data, predicted)
    if made is None:
        return [_EQUAL]
    head, runs_map, planes = made
    mapped = [] if runs_map is None else write_planes(b"", [code_symbols(memoryview(runs_map))])
    return [head, *mapped, *write_planes(b"", code_all(planes))]


def _arrange_compiled(spec: TensorSpec, data: memoryview, predicted: memoryview) -> Arranged | None:
    kind = _kind(spec)
    sample = sample_size(data.nbytes // kind[0], blocks=kind[3] > 0)
    made = kernels.residuals.arrange(data, predicted, kind, sample, *arrangement_limits(), _GAPS_WORTH)
    if made is None:
        return None
    head, runs_map, packed, sizes = made
    view, ends = memoryview(packed), list(accumulate(sizes))
    return head, runs_map, [view[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _arrange_with_numpy(spec: TensorSpec, data: memoryview, predicted: memoryview) -> Arranged | None:
    import numpy as np

    width = integer_width(spec) or 1
    values, guesses = as_integers(data, width), as_integers(predicted, width)
    missed = _differences(values, guesses)
    if not missed.any():
        return None
    keys, flags, runs_map = _keys(spec, guesses), 0, None
    runs, some = _missed_runs(missed)
    if some < _GAPS_WORTH * runs.size:
        missed, keys, flags = _select(missed, runs), _select(keys, runs), _GAPS
        runs_map = np.packbits(runs, bitorder="little").data
    stripes = plan(missed, keys, sample_size(values.size, blocks=block_width(spec) > 0))
    order, parts = group(keys, stripes)
    if order is not None:
        missed = np.take(missed, order, mode="clip")  # no index is out of range, and the mode avoids a copy
    stripes, planes = encode_stripes(stripes, parts, missed)
    records = [_RECORD.pack(s.last, s.low, s.bits, s.wide, s.excesses) for s in stripes]
    return bytes([flags | len(stripes)]) + b"".join(records), runs_map, planes


def decode_residual(spec: TensorSpec, payload: memoryview, predicted: memoryview, out: memoryview) -> None:
    """Decode a chunk into ``out``, given the prediction that it was encoded with.

    Raises:
        CorruptError: The payload cannot be the residual of a chunk of that size.
    """
    width = integer_width(spec) or 1
    if payload == _EQUAL:
        out[:] = predicted
        return
    if payload[:1] == _DENSE:
        decode_dense(spec, payload[1:], out)
        return
    if out.nbytes % width or predicted.nbytes != out.nbytes:
        raise CorruptError("the size of a residual does not fit its tensor")
    count = payload[0] & ~_GAPS if payload.nbytes else 0
    head, payload = payload[: 1 + count * _RECORD.size], payload[1 + count * _RECORD.size :]
    runs_map: Buffer = b""
    if count and head[0] & _GAPS:
        (runs_map,), payload = read_some_planes(payload, [-(-(out.nbytes // width // _RUN) // 8)])
    restore = _restore_with_numpy if kernels.residuals is None else _restore_compiled
    restore(spec, predicted, Coded(head, runs_map, payload), out)


def _restore_compiled(spec: TensorSpec, predicted: memoryview, coded: Coded, out: memoryview) -> None:
    try:
        state, sizes = kernels.residuals.begin(predicted, _kind(spec), coded.head, coded.runs_map)
        kernels.residuals.restore(state, predicted, read_planes(coded.planes, sizes), out)
    except ValueError as error:
        raise CorruptError(str(error)) from error


def _restore_with_numpy(spec: TensorSpec, predicted: memoryview, coded: Coded, out: memoryview) -> None:
    import numpy as np

    width = integer_width(spec) or 1
    values, guesses = as_integers(out, width), as_integers(predicted, width)
    stripes = _read_records(coded.head, width)
    keys, runs = _keys(spec, guesses), None
    if coded.head[0] & _GAPS:
        packed = as_integers(coded.runs_map, 1)
        runs = np.unpackbits(packed, count=values.size // _RUN, bitorder="little").view(np.bool_)
        keys = _select(keys, runs)
    missed = _decode_stripes(stripes, keys, coded.planes, values.dtype)
    if runs is not None:
        missed = _spread(missed, runs, values.size)
    _add_differences(missed, guesses, values)


def _read_records(head: memoryview, width: int) -> list[Stripe]:
    if head.nbytes <= 1 or head.nbytes != 1 + (head[0] & ~_GAPS) * _RECORD.size:
        raise CorruptError("a residual is truncated")
    stripes = [Stripe(*record) for record in _RECORD.iter_unpack(head[1:])]
    lasts = [stripe.last for stripe in stripes]
    if lasts != sorted(set(lasts)) or lasts[-1] != LAST_KEY:
        raise CorruptError("the stripes of a residual are not in order")
    if any(s.bits not in SYMBOL_BITS or s.low >= width or s.low + s.wide > width for s in stripes):
        raise CorruptError("a residual has an unknown arrangement")
    return stripes


def _decode_stripes(stripes: Sequence[Stripe], keys: Any, payload: memoryview, kind: Any) -> Any:
    """Return the differences of the elements with these keys."""
    order, parts = group(keys, stripes)
    counts = [part.stop - part.start for part in parts]
    if any(stripe.excesses > count for stripe, count in zip(stripes, counts, strict=True)):
        raise CorruptError("a residual has more elements than its tensor")
    sizes = [stripe.sizes(count) for stripe, count in zip(stripes, counts, strict=True)]
    planes = iter(read_planes(payload, [size for some in sizes for size in some]))
    missed = scratch("missed", keys.size, kind.str)
    decode_stripes(stripes, parts, [[next(planes) for _ in some] for some in sizes], missed)
    if order is None:
        return missed
    ordered = scratch("ordered", keys.size, kind.str)
    ordered[order] = missed
    return ordered


def _kind(spec: TensorSpec) -> tuple[int, int, int, int]:
    """Return how the key of an element follows from its prediction.

    Returns:
        The width of an integer in bytes, the lowest bit of the exponent, and the mask of the key: the exponent, or its
        lower eight bits; 0 for elements without an exponent. For blocks of bytes the last number is their size, and the
        key is the position in the block; else it is 0.
    """
    width, block = integer_width(spec) or 1, block_width(spec)
    if block:
        return width, 0, 0, block
    exponent, mantissa = spec.dtype.exponent, spec.dtype.mantissa
    if spec.dtype.kind == "complex":
        exponent, mantissa = {4: (8, 23), 8: (11, 52)}[width]
    if exponent == 0 or spec.dtype.bits % 8:
        return width, 0, 0, 0
    return width, mantissa, (1 << min(exponent, 8)) - 1, 0


def _keys(spec: TensorSpec, guesses: Any) -> Any:
    """Return the key of each predicted value; see ``_kind``."""
    import numpy as np

    _, lowest, mask, block = _kind(spec)
    keys = scratch("keys", guesses.size, "|u1")
    if block:
        keys[:] = np.resize(np.arange(block, dtype=np.uint8), keys.size)
        return keys
    shifted = scratch("shifted", guesses.size, guesses.dtype.str)
    np.right_shift(guesses, lowest, out=shifted)
    np.copyto(keys, shifted, casting="unsafe")
    return np.bitwise_and(keys, mask, out=keys)


def _differences(values: Any, guesses: Any) -> Any:
    """Return ``values - guesses`` in zigzag order, 0, -1, 1, -2 and so on, in scratch memory."""
    import numpy as np

    kind, signed = values.dtype.str, f"<i{values.itemsize}"
    missed, signs = scratch("missed", values.size, kind), scratch("signs", values.size, kind)
    np.subtract(values, guesses, out=missed)
    np.right_shift(missed.view(signed), 8 * values.itemsize - 1, out=signs.view(signed))  # all ones below zero
    np.left_shift(missed, 1, out=missed)
    return np.bitwise_xor(missed, signs, out=missed)


def _add_differences(missed: Any, guesses: Any, out: Any) -> None:
    """Write the values for which ``_differences`` returns ``missed``."""
    import numpy as np

    signs = scratch("signs", missed.size, missed.dtype.str)
    np.bitwise_and(missed, 1, out=signs)
    np.negative(signs, out=signs)
    np.right_shift(missed, 1, out=out)
    np.bitwise_xor(out, signs, out=out)
    np.add(out, guesses, out=out)


def _missed_runs(missed: Any) -> tuple[Runs, int]:
    """Return whether any element of each complete run is not predicted exactly, and the number of such runs."""
    import numpy as np

    count = missed.size // _RUN
    words = missed[: count * _RUN].view("<u8") != 0
    flags = words.view("<u8").reshape(count, missed.itemsize)  # eight words, of eight bytes each, in one integer
    some = flags[:, 0].copy()
    for column in range(1, missed.itemsize):
        some |= flags[:, column]
    runs: Runs = some != 0
    return runs, int(np.count_nonzero(runs))


def _select(values: Any, runs: Runs) -> Any:
    """Return the elements of selected runs, and those after the last complete run."""
    import numpy as np

    whole = runs.size * _RUN
    return np.concatenate([values[:whole].reshape(-1, _RUN)[runs].reshape(-1), values[whole:]])


def _spread(selected: Any, runs: Runs, count: int) -> Any:
    """Return the ``count`` elements from which ``_select`` returns ``selected``, with zeros everywhere else."""
    whole = runs.size * _RUN
    behind = selected.size - (count - whole)
    values = scratch("spread", count, selected.dtype.str)
    values[:whole] = 0
    values[:whole].reshape(-1, _RUN)[runs] = selected[:behind].reshape(-1, _RUN)
    values[whole:] = selected[behind:]
    return values
