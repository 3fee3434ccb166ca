"""Estimate how few bits the delta of two checkpoints could take, by the context of the coder, and compare ``delta``.

Differences are split as in a coder: a symbol for small ones and for the size and leading bits of others, and the bits
below, which are stored raw. The cost of the symbols of each context is that of an ideal adaptive arithmetic coder that
starts without statistics. It includes the cost of learning, which too many contexts increase; entropies would not show
it. Runs without changes cost one bit each, because ``delta`` leaves them out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open

from benchmarks.codecs import Held, chunks_of
from benchmarks.report import markdown
from git_theta_ext.interfaces import Fit
from git_theta_ext.registry import find_encoding
from git_theta_ext.store.packs.format import chunk_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import numpy.typing as npt

    Numbers = npt.NDArray[np.int64]
    Versions = tuple[str, Path, Path, Path | None]

DTYPES = {torch.bfloat16: ("BF16", torch.uint16, 7), torch.float32: ("F32", torch.uint32, 23)}
"""Name, integer type of the same width, and bits of the mantissa."""
_EXACT, _LEADING = 64, 3
_SYMBOLS = 512
_PRIOR = 1 / 16
_MATRIX = 2
_RUN = 64


def measure(versions: Iterable[Versions]) -> list[dict[str, Any]]:
    """Measure the matrices that changed between two checkpoints.

    Args:
        versions: Name, older checkpoint, newer checkpoint, and the checkpoint before the older one or None.

    Returns:
        For each name, the bits per element that ``delta`` takes, and those that a coder with each context would take.
    """
    rows = []
    for name, old, new, older in versions:
        bits: dict[str, float] = defaultdict(float)
        elements = 0
        for tensors in _changed(old, new, older):
            elements += tensors[0].numel()
            for context, size in _bits(*tensors).items():
                bits[context] += size
        rows.append({"pair": name, "elements": elements, "bits": {key: all_ / elements for key, all_ in bits.items()}})
    return rows


def _changed(old: Path, new: Path, older: Path | None) -> Iterable[tuple[torch.Tensor, ...]]:
    """Yield the newer, the older and the earlier values of the tensors with the same shape in all versions."""
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, "pt")) for path in (new, old, older) if path]
        for name in sorted(set.intersection(*(set(file.keys()) for file in files))):
            versions = tuple(file.get_tensor(name) for file in files)
            target, parent = versions[:2]
            alike = (
                target.dim() == _MATRIX and target.dtype in DTYPES and len({version.shape for version in versions}) == 1
            )
            if alike and not torch.equal(target, parent):
                yield versions


def _bits(target: torch.Tensor, parent: torch.Tensor, grandparent: torch.Tensor | None = None) -> dict[str, float]:
    dtype, integers, mantissa = DTYPES[target.dtype]
    width = 8 * target.element_size()
    before = _patterns(parent, integers)
    missed = _zigzag(_patterns(target, integers) - before, width)
    code = _coder(missed)
    exponent = (before >> mantissa) & 0xFF
    bits = {
        "delta": 8 * _stored(target, parent, dtype),
        "nothing": code(np.zeros_like(missed)),
        "exponent": code(exponent),
        "exponent, 2 bits of mantissa": code((before >> (mantissa - 2)) & 0x3FF),
        "exponent, column": code(exponent << 8 | _mean_sizes(missed, 0)) + 8 * missed.shape[1],
        "exponent, row and column": code(exponent << 8 | _mean_sizes(missed, 0) // 2 << 4 | _mean_sizes(missed, 1) // 2)
        + 8 * sum(missed.shape),
        "exponent, neighbours": code(exponent << 8 | _neighbours(missed)),
    }
    if grandparent is not None:
        moved = before - _patterns(grandparent, integers)
        bits["exponent, earlier step"] = code(exponent << 8 | _sizes(_zigzag(moved, width)) << 1 | (moved < 0))
        again = _patterns(target, integers) - 2 * before + _patterns(grandparent, integers)
        bits["earlier step again"] = _coder(_zigzag(again, width))(exponent)
    return bits


def _patterns(tensor: torch.Tensor, integers: torch.dtype) -> Numbers:
    return tensor.contiguous().view(integers).numpy().astype(np.int64)


def _zigzag(difference: Numbers, width: int) -> Numbers:
    wrapped = (difference + (1 << (width - 1))) % (1 << width) - (1 << (width - 1))
    return np.where(wrapped < 0, -2 * wrapped - 1, 2 * wrapped)


def _sizes(numbers: Numbers) -> Numbers:
    """Return the number of bits of each number."""
    return np.frexp(numbers.astype(np.float64))[1].astype(np.int64)


def _mean_sizes(missed: Numbers, axis: int) -> Numbers:
    """Return twice the bits of the mean of each column (0) or row (1), at most 31; a coder sends a byte for each."""
    means = 1 + missed.mean(axis=axis, keepdims=True)
    return np.broadcast_to(np.minimum(2 * np.log2(means), 31).astype(np.int64), missed.shape)


def _neighbours(missed: Numbers) -> Numbers:
    """Return twice the bits of the summed residuals to the left and above, which a decoder knows."""
    neighbours = np.zeros_like(missed)
    neighbours[:, 1:] += missed[:, :-1]
    neighbours[1:] += missed[:-1]
    return np.minimum(2 * np.log2(1 + neighbours), 63).astype(np.int64)


def _coder(missed: Numbers) -> Callable[[Numbers], float]:
    """Return a function that computes the bits of coding these numbers in given contexts."""
    runs = np.pad(missed.reshape(-1), (0, -missed.size % _RUN)).reshape(-1, _RUN).any(axis=1)
    coded = runs.repeat(_RUN)[: missed.size]
    missed = missed.reshape(-1)[coded]
    sizes = _sizes(missed)
    below = np.maximum(sizes - 1 - _LEADING, 0)
    leading = (missed >> below) & ((1 << _LEADING) - 1)
    symbols = np.where(missed < _EXACT, missed, _EXACT + (sizes << _LEADING) + leading)
    raw = float(below[missed >= _EXACT].sum() + runs.size)

    def code(contexts: Numbers) -> float:
        counts = np.bincount(contexts.reshape(-1)[coded] * _SYMBOLS + symbols)
        counts = np.pad(counts, (0, -counts.size % _SYMBOLS)).reshape(-1, _SYMBOLS)
        counts = counts[counts.any(axis=1)].astype(np.float64)
        learned = _log_gamma(counts.sum(axis=1) + _SYMBOLS * _PRIOR).sum() - len(counts) * math.lgamma(
            _SYMBOLS * _PRIOR
        )
        likelihood = _log_gamma(counts[counts > 0] + _PRIOR).sum() - (counts > 0).sum() * math.lgamma(_PRIOR)
        return raw + float(learned - likelihood) / math.log(2)

    return code


def _log_gamma(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = torch.lgamma(torch.from_numpy(numbers)).numpy()
    return values


def _stored(target: torch.Tensor, parent: torch.Tensor, dtype: str) -> int:
    """Return the size in bytes of the encoding by ``delta``."""
    encoding, held, base = find_encoding("delta"), Held.of(target, dtype), Held.of(parent, dtype)
    chunks = chunks_of(encoding, held.spec, base, Fit())
    views = [held.data[slice(*chunk_range(held.spec, number))] for number in range(len(chunks))]
    return sum(memoryview(piece).nbytes for job in zip(chunks, views, strict=True) for piece in encoding.encode(*job))


def table(rows: list[dict[str, Any]]) -> str:
    """Render the figures as Markdown: bits per element."""
    contexts = list(dict.fromkeys(context for row in rows for context in row["bits"]))
    body = [
        [row["pair"], *(f"{row['bits'][context]:.3f}" if context in row["bits"] else "" for context in contexts)]
        for row in rows
    ]
    return markdown(["bits an element", *contexts], body)
