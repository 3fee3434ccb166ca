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
from git_theta_ext.coding.kernels import put, take
from git_theta_ext.coding.planes import (
    block_width,
    code_all,
    code_symbols,
    integer_width,
    payload_size,
    plane_bytes,
    read_planes,
    read_some_planes,
    write_planes,
)
from git_theta_ext.coding.stripe_plan import limits, plan
from git_theta_ext.coding.stripes import (
    LAST_KEY,
    SYMBOL_BITS,
    UNEXPECTED,
    Stripe,
    decode_stripes,
    encode_stripes,
    group,
)
from git_theta_ext.errors import CorruptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import TensorSpec

    Runs = npt.NDArray[np.bool_]

_EQUAL = b"\0"
_DENSE = b"\x80"
_GAPS = 0x80
_RECORD = struct.Struct("<BBBBI")
_RUN = 64
_SMALL = 1 << 16  # elements below which all of them are the sample for the plan
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
    width = integer_width(spec) or 1
    if kernels.residuals is not None and data.nbytes < _SMALL * width and not block_width(spec):
        return _encode_small(spec, data, predicted, width)
    import numpy as np

    values, guesses = as_integers(data, width), as_integers(predicted, width)
    missed, any_missed = _differences(values, guesses)
    if not any_missed:
        return [_EQUAL]
    keys, flags, runs_map = _keys(spec, guesses), 0, []
    runs, some = _missed_runs(missed)
    if some < _GAPS_WORTH * runs.size:
        missed, keys, flags = _select(missed, runs), _select(keys, runs), _GAPS
        runs_map = write_planes(b"", [code_symbols(np.packbits(runs, bitorder="little").data)])
    stripes = plan(missed, keys)
    order, parts = group(keys, stripes)
    if order is not None:
        ordered = scratch("ordered", missed.size, missed.dtype.str)
        take(missed, order, ordered)
        missed = ordered
    stripes, coded = encode_stripes(stripes, parts, missed)
    records = [_RECORD.pack(s.last, s.low, s.bits, s.wide, s.excesses) for s in stripes]
    return [bytes([flags | len(stripes)]) + b"".join(records), *runs_map, *write_planes(b"", coded)]


def _encode_small(spec: TensorSpec, data: memoryview, predicted: memoryview, width: int) -> list[Buffer]:
    """Do as ``_encode`` with one call for all steps: for few elements, each call costs more than its arithmetic."""
    made = kernels.residuals.code(data, predicted, width, *_key_bits(spec, width), *limits(), _GAPS_WORTH)
    if made is None:
        return [_EQUAL]
    head, runs, packed, sizes = made
    view, ends = memoryview(packed), list(accumulate(sizes))
    coded = code_all([view[end - size : end] for size, end in zip(sizes, ends, strict=True)])
    runs_map = write_planes(b"", [code_symbols(memoryview(runs))]) if runs else []
    return [head, *runs_map, *write_planes(b"", coded)]


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
    if kernels.residuals is not None and out.nbytes < _SMALL * width and not block_width(spec):
        key_bits = _key_bits(spec, width)
        planes = kernels.residuals.layout(payload, predicted, width, *key_bits)
        if planes is not None:
            if not kernels.residuals.fill(payload, plane_bytes(payload, planes), predicted, width, *key_bits, out):
                raise CorruptError(UNEXPECTED)
            return
    import numpy as np

    values, guesses = as_integers(out, width), as_integers(predicted, width)
    stripes, has_gaps, payload = _read_records(payload, width)
    keys, runs = _keys(spec, guesses), None
    if has_gaps:
        count = values.size // _RUN
        (packed,), payload = read_some_planes(payload, [-(-count // 8)])
        runs = np.unpackbits(as_integers(packed, 1), count=count, bitorder="little").view(np.bool_)
        keys = _select(keys, runs)
    missed = _decode_stripes(stripes, keys, payload, values.dtype)
    if runs is not None:
        missed = _spread(missed, runs, values.size)
    _add_differences(missed, guesses, values)


def _read_records(payload: memoryview, width: int) -> tuple[list[Stripe], bool, memoryview]:
    """Return the stripes, whether runs are left out, and the bytes after the records."""
    count = payload[0] & ~_GAPS if payload.nbytes else 0
    end = 1 + count * _RECORD.size
    if count == 0 or payload.nbytes < end:
        raise CorruptError("a residual is truncated")
    stripes = [Stripe(*record) for record in _RECORD.iter_unpack(payload[1:end])]
    lasts = [stripe.last for stripe in stripes]
    if lasts != sorted(set(lasts)) or lasts[-1] != LAST_KEY:
        raise CorruptError("the stripes of a residual are not in order")
    if any(s.bits not in SYMBOL_BITS or s.low >= width or s.low + s.wide > width for s in stripes):
        raise CorruptError("a residual has an unknown arrangement")
    return stripes, bool(payload[0] & _GAPS), payload[end:]


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
    put(missed, order, ordered)
    return ordered


def _keys(spec: TensorSpec, guesses: Any) -> Any:
    """Return the exponent of each predicted value or its lower eight bits; positions for blocks; otherwise zeros."""
    import numpy as np

    keys = scratch("keys", guesses.size, "|u1")
    if width := block_width(spec):
        keys[:] = np.resize(np.arange(width, dtype=np.uint8), keys.size)
        return keys
    mantissa, mask = _key_bits(spec, guesses.itemsize)
    if mask == 0:
        keys[:] = 0
        return keys
    if kernels.residuals is not None:
        kernels.residuals.keys(guesses, guesses.itemsize, mantissa, mask, keys)
        return keys
    shifted = scratch("shifted", guesses.size, guesses.dtype.str)
    np.right_shift(guesses, mantissa, out=shifted)
    np.copyto(keys, shifted, casting="unsafe")
    return np.bitwise_and(keys, mask, out=keys)


def _key_bits(spec: TensorSpec, width: int) -> tuple[int, int]:
    """Return how far to shift a value of ``width`` bytes to get its key, and the mask for it; 0 if all keys are 0."""
    exponent, mantissa = spec.dtype.exponent, spec.dtype.mantissa
    if spec.dtype.kind == "complex":
        exponent, mantissa = {4: (8, 23), 8: (11, 52)}[width]
    if exponent == 0 or spec.dtype.bits % 8:
        return 0, 0
    return mantissa, (1 << min(exponent, 8)) - 1


def _differences(values: Any, guesses: Any) -> tuple[Any, bool]:
    """Return ``values - guesses`` in zigzag order, 0, -1, 1, -2 and so on, and whether any of them is not 0.

    The differences are in scratch memory.
    """
    import numpy as np

    kind, signed = values.dtype.str, f"<i{values.itemsize}"
    missed = scratch("missed", values.size, kind)
    if kernels.residuals is not None:
        return missed, kernels.residuals.differences(values, guesses, values.itemsize, missed)
    signs = scratch("signs", values.size, kind)
    np.subtract(values, guesses, out=missed)
    np.right_shift(missed.view(signed), 8 * values.itemsize - 1, out=signs.view(signed))  # all ones below zero
    np.left_shift(missed, 1, out=missed)
    np.bitwise_xor(missed, signs, out=missed)
    return missed, bool(missed.any())


def _add_differences(missed: Any, guesses: Any, out: Any) -> None:
    """Write the values for which ``_differences`` returns ``missed``."""
    import numpy as np

    if kernels.residuals is not None:
        kernels.residuals.add_differences(missed, guesses, missed.itemsize, out)
        return
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
    if kernels.residuals is not None:
        flags = np.empty(count, np.bool_)
        return flags, kernels.residuals.runs(missed, missed.itemsize, flags)
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
