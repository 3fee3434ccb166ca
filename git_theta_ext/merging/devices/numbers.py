"""Convert between the store's bytes and the tensors that torch computes with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.model.floats import components, is_wide

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from typing_extensions import Buffer

    from git_theta_ext.model.dtypes import Dtype

TORCH = {
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "float32",
    "C128": "float64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "BOOL": "uint8",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
}
"""Element type to the type of the tensors with its numbers."""


def torch_dtype(dtype: Dtype) -> torch.dtype:
    """Return the type of a tensor with such elements; for complex ones that of their components."""
    import torch

    kind: torch.dtype = getattr(torch, TORCH[dtype.name])
    return kind


def viewed(data: Buffer, kind: torch.dtype) -> torch.Tensor:
    """Return bytes as a tensor that shares them; unlike torch.frombuffer, it accepts an empty buffer."""
    import torch

    return torch.frombuffer(data, dtype=kind) if memoryview(data).nbytes else torch.empty(0, dtype=kind)


def widened(values: torch.Tensor, dtype: Dtype, *, wide: bool) -> torch.Tensor:
    """Return elements as the numbers that are computed with; the same tensor if nothing changes."""
    import torch

    if dtype.kind in ("int", "uint", "bool"):
        return values.to(torch.int64)
    return values.to(torch.float64 if wide else torch.float32)


def number_bytes(dtypes: Iterable[Dtype]) -> int:
    """Return the size of the numbers that elements of some types are computed with, all in the same type."""
    wide = any(is_wide(dtype) or dtype.kind in ("int", "uint", "bool") for dtype in dtypes)
    return 8 if wide else 4


def prepared(values: torch.Tensor, dtype: Dtype) -> torch.Tensor:
    """Return numbers in one dimension, as float32 if float64 would be rounded differently than in ``model.floats``."""
    import torch

    flat = values.reshape(-1)
    narrow = dtype.bits // components(dtype) <= 16  # noqa: PLR2004 - bits
    return flat.to(torch.float32) if narrow and flat.dtype == torch.float64 else flat
