"""Random numbers that depend on a key and an element's place alone: the same on any device, however a tensor is cut.

The mixing function is SplitMix64's (Steele, Lea and Flood, 2014, https://doi.org/10.1145/2660193.2660195).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Option

if TYPE_CHECKING:
    import torch

SEED = Option(0, 0, 2**53, whole=True)
"""To draw others: the keys depend on it."""

_STEP = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)
_BITS = 24


def uniform(key: int, start: int, like: torch.Tensor) -> torch.Tensor:
    """Draw numbers from [0, 1), multiples of 2^-24.

    Args:
        key: 64 bits.
        start: Place of the first element.
        like: Has the shape, in whose flattened order places count, and the device.

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
    """Return the 64-bit integer of the same bits that has a sign."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number


def _shifted(bits: torch.Tensor, by: int) -> torch.Tensor:
    """Shift right and fill with zeros."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
