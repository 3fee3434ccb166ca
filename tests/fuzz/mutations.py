"""Inputs that are nearly right: what a damaged disk, a cut connection or somebody hostile makes of good ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

LARGEST = 1 << 17
_ODD = (0, 1, 2, 7, 63, 64, 127, 128, 255, 256, 32767, 65535, 65536, (1 << 31) - 1, (1 << 32) - 1, (1 << 63) - 1)
_PIECES = (
    b"\x90", b"\x80", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"[", b"{", b"]", b"}", b'"', b",", b"\\",
    b"\n", b"\t", b"\0", b"\xff", b"1e999", b"-1", b"99999999999999999999", b"null", b"NaN", b"\x1b[2J", b"PK\3\4",
    b"PK\5\6", b"\x94", b"(", b"R", b"h\0", b"0000", b"\xed\xa0\x80", b"../", b"!!timestamp x", b"&a ", b"*a", b"<<: ",
)  # fmt: skip


def mutated(draw: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of some seeds with a few things wrong in it."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        draw.choice(_MUTATIONS)(draw, data, seeds)
    return bytes(data[:LARGEST])


def _place(draw: random.Random, data: bytearray) -> int:
    return draw.randrange(len(data) + 1)


def _flip(draw: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _byte(draw: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[draw.randrange(len(data))] = draw.randrange(256)


def _cut(draw: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[_place(draw, data) :]


def _remove(draw: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _place(draw, data)
    del data[at : at + draw.choice((1, 2, 8, 100))]


def _insert(draw: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _place(draw, data)
    data[at:at] = draw.choice(_PIECES) * draw.choice((1, 1, 2, 20, 3000))


def _repeat(draw: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = _place(draw, data)
    piece = data[at : at + draw.choice((1, 4, 30, 200))]
    data[at:at] = piece * min(draw.choice((1, 3, 50, 2000)), LARGEST // max(1, len(piece)))


def _length(draw: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    width, order = draw.choice((1, 2, 4, 8)), draw.choice(("little", "big"))
    if len(data) >= width:
        at = draw.randrange(len(data) - width + 1)
        number = int.from_bytes(data[at : at + width], order)
        number = draw.choice((*_ODD, number + 1, max(0, number - 1), number * 2)) % (1 << 8 * width)
        data[at : at + width] = number.to_bytes(width, order)


def _digits(draw: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    places = [at for at, octet in enumerate(data) if 0x30 <= octet <= 0x39]
    if places:
        at = draw.choice(places)
        data[at : at + 1] = str(draw.choice(_ODD)).encode()


def _splice(draw: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    other = draw.choice(seeds)
    at = _place(draw, data)
    data[at:] = other[draw.randrange(len(other) + 1) :]


_MUTATIONS = (_flip, _byte, _cut, _remove, _insert, _repeat, _length, _digits, _splice)
