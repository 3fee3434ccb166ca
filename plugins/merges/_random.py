"""Random numbers that depend only on a key and an element's index: the same on any device and for any pieces.

The mixing function is SplitMix64's (Steele, Lea and Flood, 2014, https://doi.org/10.1145/2660193.2660195).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Option

if TYPE_CHECKING:
    import torch

SEED = Option(0, 0, 2**53, whole=True)
"""The seed: the keys depend on it."""

_STEP = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)
_BITS = 24


def uniform(key: int, start: int, like: torch.Tensor) -> torch.Tensor:
    """Return uniform numbers from [0, 1), multiples of 2^-24.

    Args:
        key: 64 bits.
        start: Index of the first element.
        like: A tensor with the shape and the device of the result; indices count in its flattened order.

    Returns:
        A float32 tensor.
    """
    import torch

    places = torch.arange(start + 1, start + 1 + like.numel(), dtype=torch.int64, device=like.device)
    mixed = places.mul_(_signed(_STEP)).add_(_signed(key))
    for multiplier, shift in zip((*_MULTIPLIERS, 1), _SHIFTS, strict=True):
        mixed = (mixed ^ _shifted(mixed, shift)).mul_(_signed(multiplier))
    return _shifted(mixed, 64 - _BITS).to(torch.float32).mul_(2.0**-_BITS).reshape(like.shape)


def _signed(number: int) -> int:
    """Return the signed 64-bit integer with the same bits."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number


def _shifted(bits: torch.Tensor, by: int) -> torch.Tensor:
    """Shift right, filling with zeros."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
