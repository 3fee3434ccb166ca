"""How few bits the difference of two checkpoints could take, by what a coder may look at, beside what it takes.

Differences are split as a coder would: a symbol for small ones and for the size and leading bits of others, and the
bits below, which cost what they are. The symbols of each context cost what an ideal arithmetic coder needs that starts
without knowledge and learns as it goes, so that contexts too many are punished: entropies would call them free. Runs in
which nothing changed cost a bit each, as ``delta`` leaves them out.
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
"""Name, type of the same bits as an integer, and bits of the mantissa."""
_EXACT, _LEADING = 64, 3
_SYMBOLS = 512
_PRIOR = 1 / 16
_MATRIX = 2
_RUN = 64


def measure(versions: Iterable[Versions]) -> list[dict[str, Any]]:
    """Measure the matrices that changed between two checkpoints.

    Args:
        versions: Name, older and newer checkpoint, and one that is older still, or None.

    Returns:
        For each name the bits an element that ``delta`` takes, and those that coders of each context would.
    """
    rows = []
    for name, old, new, older in versions:
        bits: dict[str, float] = defaultdict(float)
        elements = 0
        for tensors in _changed(old, new, older):
            elements += tensors[0].numel()
            for context, found in _bits(*tensors).items():
                bits[context] += found
        rows.append({"pair": name, "elements": elements, "bits": {key: all_ / elements for key, all_ in bits.items()}})
    return rows


def _changed(old: Path, new: Path, older: Path | None) -> Iterable[tuple[torch.Tensor, ...]]:
    """Yield the newer and the older values, and those that are older still, of what has the same shape in all."""
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, "pt")) for path in (new, old, older) if path]
        for name in sorted(set.intersection(*(set(file.keys()) for file in files))):
            versions = tuple(file.get_tensor(name) for file in files)
            target, parent = versions[:2]
            alike = target.dim() == _MATRIX and target.dtype in DTYPES and len({each.shape for each in versions}) == 1
            if alike and not torch.equal(target, parent):
                yield versions


def _bits(target: torch.Tensor, parent: torch.Tensor, grandparent: torch.Tensor | None = None) -> dict[str, float]:
    dtype, integers, mantissa = DTYPES[target.dtype]
    width = 8 * target.element_size()
    before = _patterns(parent, integers)
    missed = _zigzag(_patterns(target, integers) - before, width)
    code = _coder(missed)
    exponent = (before >> mantissa) & 0xFF
    found = {
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
        found["exponent, earlier step"] = code(exponent << 8 | _sizes(_zigzag(moved, width)) << 1 | (moved < 0))
        again = _patterns(target, integers) - 2 * before + _patterns(grandparent, integers)
        found["earlier step again"] = _coder(_zigzag(again, width))(exponent)
    return found


def _patterns(tensor: torch.Tensor, integers: torch.dtype) -> Numbers:
    return tensor.contiguous().view(integers).numpy().astype(np.int64)


def _zigzag(difference: Numbers, width: int) -> Numbers:
    wrapped = (difference + (1 << (width - 1))) % (1 << width) - (1 << (width - 1))
    return np.where(wrapped < 0, -2 * wrapped - 1, 2 * wrapped)


def _sizes(numbers: Numbers) -> Numbers:
    """Return how many bits each number has."""
    return np.frexp(numbers.astype(np.float64))[1].astype(np.int64)


def _mean_sizes(missed: Numbers, axis: int) -> Numbers:
    """Return twice the size of the mean of each column (0) or row (1), at most 31: an octet that is sent ahead."""
    means = 1 + missed.mean(axis=axis, keepdims=True)
    return np.broadcast_to(np.minimum(2 * np.log2(means), 31).astype(np.int64), missed.shape)


def _neighbours(missed: Numbers) -> Numbers:
    """Return twice the size of what the elements to the left and above missed together, which a decoder knows."""
    known = np.zeros_like(missed)
    known[:, 1:] += missed[:, :-1]
    known[1:] += missed[:-1]
    return np.minimum(2 * np.log2(1 + known), 63).astype(np.int64)


def _coder(missed: Numbers) -> Callable[[Numbers], float]:
    """Return what tells the bits of coding these numbers in contexts."""
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
        told = _log_gamma(counts[counts > 0] + _PRIOR).sum() - (counts > 0).sum() * math.lgamma(_PRIOR)
        return raw + float(learned - told) / math.log(2)

    return code


def _log_gamma(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = torch.lgamma(torch.from_numpy(numbers)).numpy()
    return found


def _stored(target: torch.Tensor, parent: torch.Tensor, dtype: str) -> int:
    """Return the bytes that ``delta`` takes."""
    encoding, held, base = find_encoding("delta"), Held.of(target, dtype), Held.of(parent, dtype)
    chunks = chunks_of(encoding, held.spec, base, Fit())
    views = [held.data[slice(*chunk_range(held.spec, number))] for number in range(len(chunks))]
    return sum(memoryview(piece).nbytes for job in zip(chunks, views, strict=True) for piece in encoding.encode(*job))


def table(rows: list[dict[str, Any]]) -> str:
    """Render the figures as Markdown: bits an element."""
    contexts = list(dict.fromkeys(context for row in rows for context in row["bits"]))
    body = [
        [row["pair"], *(f"{row['bits'][context]:.3f}" if context in row["bits"] else "" for context in contexts)]
        for row in rows
    ]
    return markdown(["bits an element", *contexts], body)
