"""Random numbers that depend only on a key and an element's index: the same on any device and for any pieces.

The mixing function is SplitMix64's (Steele, Lea and Flood, 2014, https://doi.org/10.1145/2660193.2660195).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Option, array_namespace, astype

from ._arrays import positions

if TYPE_CHECKING:
    from git_theta_ext.interfaces import Array

SEED = Option(0, 0, 2**53, whole=True)
"""The seed: the keys depend on it."""

_STEP = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)
_BITS = 24


def uniform(key: int, start: int, like: Array) -> Array:
    """Return uniform numbers from [0, 1), multiples of 2^-24.

    Args:
        key: 64 bits.
        start: Index of the first element.
        like: An array with the shape and the device of the result; indices count in its flattened order.

    Returns:
        A float32 array.
    """
    xp = array_namespace(like)
    mixed = positions(start + 1, like)
    mixed *= _signed(_STEP)
    mixed += _signed(key)
    for multiplier, shift in zip((*_MULTIPLIERS, 1), _SHIFTS, strict=True):
        mixed ^= _shifted(mixed, shift)
        mixed *= _signed(multiplier)
    numbers = astype(_shifted(mixed, 64 - _BITS), xp.float32)
    numbers *= 2.0**-_BITS
    return numbers.reshape(like.shape)


def _signed(number: int) -> int:
    """Return the signed 64-bit integer with the same bits."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number


def _shifted(bits: Array, by: int) -> Array:
    """Shift right, filling with zeros."""
    shifted = bits >> by
    shifted &= (1 << (64 - by)) - 1
    return shifted
