"""Updates as other tools write them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from helpers import ATTENTION, SPECS, safetensors

from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.update.files import read_update

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from helpers import Tensor

    from git_theta_ext.interfaces import UpdateFile

RANK = 4
MODEL_SPECS = {name: TensorSpec.of(*spec) for name, spec in SPECS.items()}


def floats(shape: tuple[int, ...], seed: int = 0, size: float = 0.05) -> Tensor:
    """Draw a float32 tensor."""
    return "F32", shape, np.random.default_rng(seed).normal(0, size, shape).astype("<f4").tobytes()


def lora_tensors(names: list[str] = ATTENTION[:2], rank: int = RANK) -> dict[str, Tensor]:
    """Return the factors of an adapter for some matrices of the small model."""
    found: dict[str, Tensor] = {}
    for seed, name in enumerate(names):
        rows, columns = SPECS[name][1]
        module = "base_model.model." + name.removesuffix(".weight")
        found[f"{module}.lora_A.weight"] = floats((rank, columns), 2 * seed)
        found[f"{module}.lora_B.weight"] = floats((rows, rank), 2 * seed + 1)
    return found


def lora_config(**changes: object) -> dict[str, Any]:
    """Return an adapter's configuration."""
    return {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": ["attention"], **changes}


def write_adapter(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Path:
    """Write an adapter's folder."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(safetensors(tensors))
    return folder


def update_of(
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> UpdateFile:
    """Return an update as it is read."""
    data = None if config is None else json.dumps(config).encode()
    return read_update(memoryview(safetensors(tensors, metadata)), "update", data)
