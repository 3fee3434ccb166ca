"""Keep the elements of a task vector with the largest magnitudes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Option

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from git_theta_ext.interfaces import Trim

OPTIONS: Mapping[str, Option] = {
    "density": Option(0.2, 1e-9, 1.0),
    "scope": Option("model", choices=("model", "rule", "tensor")),
    "ties": Option("original", choices=("original", "exact")),
}
"""Options of methods that trim: the share to keep, of what, and whether to keep more if magnitudes are equal."""


def trim(vector: torch.Tensor, threshold: Trim) -> torch.Tensor:
    """Set elements that a threshold does not keep to zero, in place."""
    import torch

    size = vector.to(torch.float32).abs()
    least = torch.full((), threshold.bits, dtype=torch.int32, device=vector.device).view(torch.float32)
    kept = size >= least
    if threshold.equal < vector.numel():
        equal = (size == least).reshape(-1)
        late = (equal.cumsum(0, dtype=torch.int64) > threshold.equal) & equal
        kept &= ~late.reshape(kept.shape)
    return vector.mul_(kept.to(vector.dtype))  # faster than filling by a mask
