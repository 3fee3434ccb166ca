"""Pairs of checkpoints of many kinds, from a training run and from a folder of real fine-tunes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.training import Run

    Model = dict[str, torch.Tensor]
    CheckpointPair = tuple[str, Path, Path]

BLOCK = 32
"""The number of values in a block of Q8_0."""


def trained_pairs(run: Run, folder: Path) -> Iterator[CheckpointPair]:
    """Yield the name, the older and the newer file of each kind from a training run; new files are in ``folder``."""
    first, before, last = run.states
    yield "consecutive, as saved", run.versions[-2], run.versions[-1]
    if run.grown:
        yield "embedding grown", *run.grown
    yield _converted("consecutive, fp32", before, last, folder, _parameters)
    yield _converted("consecutive, bf16", before, last, folder, lambda m: _cast(_parameters(m), torch.bfloat16))
    yield _converted("whole run, fp16", first, last, folder, lambda m: _cast(_parameters(m), torch.float16))
    yield _converted("whole run, fp8 e4m3", first, last, folder, lambda m: _fp8(_parameters(m)))
    yield _converted("whole run, int8 by row", first, last, folder, lambda m: _int8(_parameters(m)))
    yield _converted("whole run, Q8_0 blocks", first, last, folder, lambda m: _q8_0(_parameters(m)))
    for moment in ("exp_avg", "exp_avg_sq"):
        yield _converted(f"consecutive, {moment}", before, last, folder, lambda m, of=moment: _moments(m, of))


def real_pairs(folder: Path) -> Iterator[CheckpointPair]:
    """Yield name, base and fine-tune of each ``NAME_DTYPE.safetensors`` that has a ``base_DTYPE.safetensors``."""
    for base in sorted(folder.glob("base_*.safetensors")):
        dtype = base.stem.removeprefix("base_")
        for tuned in sorted(folder.glob(f"*_{dtype}.safetensors")):
            if tuned != base:
                yield f"{tuned.stem.removesuffix(f'_{dtype}')}, {dtype}", base, tuned


def peft_folder(adapter: Path, folder: Path, alpha: float) -> None:
    """Write a LoRA in the format of PEFT.

    Args:
        adapter: A safetensors file with ``NAME.weight.lora_A`` [r, in] and ``NAME.weight.lora_B`` [out, r].
        folder: The folder to create.
        alpha: The numerator of the scaling: the update is ``alpha / r * B @ A``.
    """
    factors = load_file(adapter)
    folder.mkdir()
    named = {f"base_model.model.{name.replace('.weight.', '.')}.weight": tensor for name, tensor in factors.items()}
    save_file(named, folder / "adapter_model.safetensors")
    rank = min(min(tensor.shape) for tensor in factors.values())
    modules = sorted({name.split(".weight.")[0] for name in factors})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": modules, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def _converted(
    name: str, old: Path, new: Path, folder: Path, change: Callable[[Model], Model | bytes]
) -> CheckpointPair:
    target = folder / name
    target.mkdir(parents=True)
    made = (target / "old", target / "new")
    for source, path in zip((old, new), made, strict=True):
        content = change(load_file(source))
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            save_file(content, path, metadata={"format": "pt"})
    return name, *made


def _parameters(state: Model) -> Model:
    return {name: tensor for name, tensor in state.items() if not name.startswith("exp_avg")}


def _moments(state: Model, moment: str) -> Model:
    return {name: tensor for name, tensor in state.items() if name.startswith(f"{moment}.")}


def _cast(model: Model, dtype: torch.dtype) -> Model:
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in model.items()}


def _matrices(model: Model) -> Iterator[tuple[str, torch.Tensor]]:
    return ((name, t) for name, t in model.items() if t.is_floating_point() and t.dim() == 2)  # noqa: PLR2004


def _fp8(model: Model) -> Model:
    """Quantise matrices to 8-bit floats with a scale for each matrix; other tensors are bf16."""
    quantised = _cast(model, torch.bfloat16)
    for name, tensor in _matrices(model):
        scale = tensor.abs().max() / torch.finfo(torch.float8_e4m3fn).max
        quantised |= {name: (tensor / scale).to(torch.float8_e4m3fn), f"{name}_scale": scale}
    return quantised


def _int8(model: Model) -> Model:
    """Quantise matrices to integers with a scale for each row; other tensors are bf16."""
    quantised = _cast(model, torch.bfloat16)
    for name, tensor in _matrices(model):
        scale = tensor.abs().amax(1, keepdim=True) / 127
        quantised |= {name: (tensor / scale.clamp(min=1e-12)).round().to(torch.int8), f"{name}_scale": scale}
    return quantised


def _q8_0(model: Model) -> bytes:
    """Return all matrices as Q8_0 of GGUF, blocks of a float16 scale and 32 integers, in a file of unknown format."""
    pieces = []
    for _, tensor in _matrices(model):
        values = tensor.reshape(-1, BLOCK)
        scale = values.abs().amax(1, keepdim=True) / 127
        integers = (values / scale.clamp(min=1e-12)).round().to(torch.int8)
        pieces.append(torch.cat([scale.half().view(torch.int8), integers], 1).numpy().tobytes())
    return b"".join(pieces)
