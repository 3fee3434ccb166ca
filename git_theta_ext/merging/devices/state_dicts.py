"""Convert tensors of torch to the store's bytes, and back."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from git_theta_ext.errors import FormatError
from git_theta_ext.merging.devices.numbers import TORCH
from git_theta_ext.model.tensor import TensorSpec

if TYPE_CHECKING:
    import torch
    from typing_extensions import Buffer

# The types of these in models, which differ from those that merges compute with.
_WHOLE = {"BOOL": "bool", "C64": "complex64", "C128": "complex128", "F8_E8M0": "float8_e8m0fnu"}
_PAIRS = {"F4": "float4_e2m1fn_x2"}
"""Types of which one element of torch is two."""


@cache
def element_types() -> dict[str, torch.dtype]:
    """Return torch's type for each element type that this version of torch has."""
    return _existing(TORCH | _WHOLE)


def _existing(names: dict[str, str]) -> dict[str, torch.dtype]:
    import torch

    return {name: getattr(torch, text) for name, text in names.items() if hasattr(torch, text)}


def to_bytes(name: str, tensor: torch.Tensor) -> tuple[TensorSpec, memoryview]:
    """Return a tensor's spec and its little-endian bytes, which may share its memory.

    Raises:
        FormatError: Checkpoints do not support its element type, or it is not dense.
    """
    import torch

    names = {dtype: text for text, dtype in element_types().items()}
    if tensor.dtype not in names or tensor.layout is not torch.strided:
        raise FormatError(
            f"parameter {name!r} is a tensor of {tensor.dtype}, {tensor.layout}, which is not supported",
            hint="leave it out",
        )
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return TensorSpec.of(names[tensor.dtype], tensor.shape), flat.view(torch.uint8).numpy().data


def to_tensor(spec: TensorSpec, data: Buffer) -> torch.Tensor:
    """Return a tensor that shares the memory of little-endian bytes.

    Torch has two elements of F4 in one, so that the last dimension is half as long, as with safetensors.

    Raises:
        FormatError: Torch does not support the element type.
    """
    import torch

    if spec.dtype.name in _existing(_PAIRS) and spec.shape and spec.shape[-1] % 2 == 0:
        halves = TensorSpec.of("U8", (*spec.shape[:-1], spec.shape[-1] // 2))
        return to_tensor(halves, data).view(_existing(_PAIRS)[spec.dtype.name])
    if spec.dtype.name not in element_types():
        raise FormatError(f"torch does not support the element type {spec.dtype.name}")
    dtype = element_types()[spec.dtype.name]
    if not spec.elements:
        return torch.empty(spec.shape, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype).reshape(spec.shape)
