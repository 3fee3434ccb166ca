"""The CRC-32 of two pieces that follow each other, given those of the pieces: zlib's ``crc32_combine``.

A checksum is a polynomial modulo ``_POLYNOMIAL``, whose coefficients are bits, the highest one first. Zero bytes that
follow a piece multiply its checksum by a power of x.
"""

from __future__ import annotations

from functools import lru_cache

_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31


def crc32_combine(first: int, second: int, nbytes: int) -> int:
    """Return the CRC-32 of two pieces, given those of each, and the size in bytes of the second."""
    return _product(_power(8 * nbytes), first) ^ second


@lru_cache(1 << 10)
def _power(exponent: int) -> int:
    """Return x to the power of an exponent."""
    result, square = _ONE, _ONE >> 1
    while exponent:
        if exponent & 1:
            result = _product(square, result)
        square = _product(square, square)
        exponent >>= 1
    return result


def _product(a: int, b: int) -> int:
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = a << 1 & 0xFFFFFFFF
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product
