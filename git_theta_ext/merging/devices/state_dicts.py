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


@cache
def element_types() -> dict[str, torch.dtype]:
    """Return torch's type for each element type that this version of torch has."""
    import torch

    return {name: getattr(torch, text) for name, text in (TORCH | _WHOLE).items() if hasattr(torch, text)}


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

    Raises:
        FormatError: Torch does not support the element type.
    """
    import torch

    if spec.dtype.name not in element_types():
        raise FormatError(f"torch does not support the element type {spec.dtype.name}")
    dtype = element_types()[spec.dtype.name]
    if not spec.elements:
        return torch.empty(spec.shape, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype).reshape(spec.shape)
