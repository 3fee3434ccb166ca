"""The model of the pictures and its fine-tunes, with the same bits on every machine.

All arithmetic is on integers, or rounds each element once: no library sums in another order, or has another logarithm.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LAYERS = 12
_WIDTH, _INNER, _VOCABULARY = 128, 256, 1000
_PROJECTIONS = {
    **{f"self_attn.{name}_proj": (_WIDTH, _WIDTH) for name in "qkvo"},
    **{f"mlp.{name}_proj": (_INNER, _WIDTH) for name in ("gate", "up")},
    "mlp.down_proj": (_WIDTH, _INNER),
}
_SCALE = 2.0**-20
"""Makes the sum of four numbers of 16 bits, less its mean, a weight of about 0.04."""

Change = dict[str, float]
"""By which share of its size each tensor of a fine-tune moves."""


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the tensors of a small Llama, in the order of the file."""
    found: dict[str, tuple[int, ...]] = {"lm_head.weight": (_VOCABULARY, _WIDTH)}
    found["model.embed_tokens.weight"] = (_VOCABULARY, _WIDTH)
    for layer in range(LAYERS):
        found |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in _PROJECTIONS.items()}
        found |= {f"model.layers.{layer}.{name}_layernorm.weight": (_WIDTH,) for name in ("input", "post_attention")}
    return found | {"model.norm.weight": (_WIDTH,)}


def recipes() -> Change:
    """Return the change of a fine-tune of the attention of the upper layers, more in each."""
    return {
        f"model.layers.{layer}.self_attn.{name}_proj.weight": 0.001 * 1.8 ** (layer - 4)
        for layer in range(4, LAYERS)
        for name in "qv"
    }


def travel() -> Change:
    """Return the change of a fine-tune of the last layers, and of the head."""
    mlp = {
        f"model.layers.{layer}.mlp.{name}_proj.weight": 0.002 * 3 ** (layer - LAYERS + 4)
        for layer in range(LAYERS - 4, LAYERS)
        for name in ("gate", "up", "down")
    }
    attention = {f"model.layers.{LAYERS - 1}.self_attn.{name}_proj.weight": 0.04 for name in "qv"}
    return {"lm_head.weight": 0.05, **mlp, **attention}


def write(path: Path, *changes: tuple[str, Change]) -> None:
    """Write the model as BF16, moved by fine-tunes, each of which has a name that draws its values."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at, values = 0, []
    for name, shape in shapes().items():
        data = _bfloat16(_tensor(name, shape, changes)).tobytes()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
        values.append(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(values))


def _tensor(name: str, shape: tuple[int, ...], changes: tuple[tuple[str, Change], ...]) -> NDArray[np.float32]:
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    tensor = _drawn("base", name, shape)
    for label, change in changes:
        if name in change:
            tensor += _drawn(label, name, shape) * np.float32(change[name])
    return tensor


def _drawn(label: str, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw values that are nearly normal: sums of four uniform integers."""
    generator = np.random.PCG64(zlib.crc32(f"{label} {name}".encode()))
    raw = generator.random_raw(int(np.prod(shape))).view(np.uint16).reshape(-1, 4)
    return ((raw.astype(np.int64).sum(axis=1) - 2 * 65535) * _SCALE).astype(np.float32).reshape(shape)


def _bfloat16(tensor: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to the nearest BF16, and to even between two."""
    bits = tensor.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
