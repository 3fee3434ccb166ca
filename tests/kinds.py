"""Small pairs of tensors of the kinds that checkpoints hold: an earlier version and a later one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from git_theta_ext.model.dtypes import dtype
from git_theta_ext.model.floats import from_float, to_float
from git_theta_ext.model.tensor import TensorSpec

ROWS, COLUMNS = 96, 64
BLOCK = 32


@dataclass(frozen=True)
class TensorVersions:
    """Two versions of a tensor: specs and little-endian bytes."""

    old_spec: TensorSpec
    old: bytes
    new_spec: TensorSpec
    new: bytes


def pairs(seed: int = 0) -> dict[str, TensorVersions]:
    """Return a pair of each kind, by name."""
    draw = np.random.default_rng(seed)
    base = draw.normal(0, 0.07, (ROWS, COLUMNS))
    tuned = base + draw.normal(0, 2.5e-4, base.shape)
    gradient, later = draw.normal(0, 1e-4, base.shape), draw.normal(0, 1e-4, base.shape)
    updates = {
        f"{name} {kind}": _floats(kind, base, changed)
        for kind in ("BF16", "F16", "F32")
        for name, changed in _updated(_stored(kind, base), draw).items()
    }
    return updates | {
        "exp_avg": _floats("F32", gradient, 0.9 * gradient + 0.1 * later),
        "exp_avg_sq": _floats("F32", gradient**2, 0.999 * gradient**2 + 0.001 * later**2),
        "fp8": _floats("F8_E4M3", base, tuned),
        "int8 by row": TensorVersions(*_int8(base), *_int8(tuned)),
        "Q8_0 as known blocks": TensorVersions(*q8_0(base, "opaque272:Q8_0"), *q8_0(tuned, "opaque272:Q8_0")),
        "Q8_0 as bytes": TensorVersions(*q8_0(base, "U8"), *q8_0(tuned, "U8")),
        "ids": _integers(np.arange(4096), np.arange(7, 4103)),
    }


def _updated(base: np.ndarray, draw: np.random.Generator) -> dict[str, np.ndarray]:
    tuned = base + draw.normal(0, 2.5e-4, base.shape)
    signs = draw.choice([-1, 0, 1], base.shape, p=[0.025, 0.95, 0.025])
    return {
        "fine-tune": tuned,
        "sparse": np.where(draw.random(base.shape) < 0.01, tuned, base),
        "low rank": base + 1e-3 * draw.normal(size=(ROWS, 4)) @ draw.normal(size=(4, COLUMNS)),
        "scaled rows": base * draw.normal(1, 0.1, (ROWS, 1)),
        "ternary": base + 1e-3 * signs,
        "grown": np.concatenate([tuned, draw.normal(0, 0.07, (8, COLUMNS))]),
        "shrunk": tuned[: ROWS - 8],
        "unchanged": base,
    }


def _floats(kind: str, old: np.ndarray, new: np.ndarray) -> TensorVersions:
    sides = [(TensorSpec.of(kind, array.shape), _rounded(kind, array)) for array in (old, new)]
    return TensorVersions(*sides[0], *sides[1])


def _stored(kind: str, array: np.ndarray) -> np.ndarray:
    """Return the values that are left of an array in an element type: updates start from these."""
    return to_float(_rounded(kind, array), dtype(kind)).reshape(array.shape).astype(np.float64)


def _rounded(kind: str, array: np.ndarray) -> bytes:
    return from_float(array.reshape(-1), dtype(kind))


def _int8(array: np.ndarray) -> tuple[TensorSpec, bytes]:
    scale = np.abs(array).max(1, keepdims=True) / 127
    return TensorSpec.of("I8", array.shape), np.rint(array / scale).astype("i1").tobytes()


def q8_0(array: np.ndarray, kind: str) -> tuple[TensorSpec, bytes]:
    """Return GGUF's blocks: a float16 scale and 32 integers each."""
    blocks = array.reshape(-1, BLOCK)
    scale = np.abs(blocks).max(1, keepdims=True) / 127
    integers = np.rint(blocks / scale).astype("i1")
    data = np.concatenate([scale.astype("<f2").view("i1"), integers], 1).tobytes()
    return TensorSpec.of(kind, (len(data) // (TensorSpec.of(kind, (8,)).nbytes // 8),)), data


def _integers(old: np.ndarray, new: np.ndarray) -> TensorVersions:
    spec = TensorSpec.of("I64", old.shape)
    return TensorVersions(spec, old.astype("<i8").tobytes(), spec, new.astype("<i8").tobytes())
