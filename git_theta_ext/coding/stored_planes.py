"""Read planes of bytes that ``planes.write_planes`` wrote."""

from __future__ import annotations

import struct
import threading
from typing import TYPE_CHECKING, Any

from git_theta_ext.coding import kernels
from git_theta_ext.coding.planes import LARGE, MANY, RAW, ZSTD, plane_table
from git_theta_ext.errors import CorruptError
from git_theta_ext.util.zstd import zstd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

_LEFT_OVER = "a chunk has bytes left over"

_local = threading.local()


def read_planes(payload: memoryview, sizes: Sequence[int]) -> list[Buffer]:
    """Return the bytes of each plane from what ``write_planes`` wrote after the head.

    Args:
        payload: The bytes after the head.
        sizes: Size of each plane in bytes. It is given so that no frame can claim more.

    Raises:
        CorruptError: The payload does not hold planes of these sizes and nothing else.
    """
    planes, rest = read_some_planes(payload, sizes)
    if rest.nbytes:
        raise CorruptError(_LEFT_OVER)
    return planes


def read_some_planes(payload: memoryview, sizes: Sequence[int]) -> tuple[list[Buffer], memoryview]:
    """Return the bytes of each plane as ``read_planes`` does, and the bytes after the planes."""
    stored, rest = _stored_planes(payload, sizes)
    planes: list[Buffer] = []
    numbers: list[int] = []
    for (codec, piece), size in zip(stored, sizes, strict=True):
        content = _decode_literals(piece, size) if codec == ZSTD else piece
        if content is None:
            numbers.append(len(planes))
        planes.append(piece if content is None else content)
    if numbers:
        frames = [stored[number][1] for number in numbers]
        for number, plane in zip(numbers, _decompress(frames, [sizes[number] for number in numbers]), strict=True):
            planes[number] = plane
    return planes, rest


def read_values(payload: memoryview, out: memoryview) -> bool:
    """Write the bf16 values of large planes that ``split_exponents`` made, block by block in the CPU's cache.

    Args:
        payload: The bytes after the head.
        out: Takes the values. If the result is False, what is written to it means nothing.

    Returns:
        Whether the planes could be decoded so. If not, ``read_planes`` has to read them.

    Raises:
        CorruptError: The payload does not hold planes of these sizes and nothing else.
    """
    count = out.nbytes // 2
    if count < LARGE or kernels.literals is None:
        return False
    ((codec, exponents), (other_codec, tops)), rest = _stored_planes(payload, [count, count])
    if rest.nbytes:
        raise CorruptError(_LEFT_OVER)
    joined: bool = kernels.literals.join(exponents, codec == ZSTD, tops, other_codec == ZSTD, out)
    return joined


def _stored_planes(payload: memoryview, sizes: Sequence[int]) -> tuple[list[tuple[int, memoryview]], memoryview]:
    """Return the codec and the stored bytes of each plane, and the bytes after the planes."""
    table = plane_table(len(sizes))
    at, end = table.size, payload.nbytes
    if end < at:
        raise CorruptError("a chunk is truncated")
    fields = table.unpack_from(payload)
    planes: list[tuple[int, memoryview]] = []
    for codec, stored, size in zip(fields[::2], fields[1::2], sizes, strict=True):
        piece = payload[at : at + stored]
        at += stored
        if at > end or (codec != ZSTD and (codec != RAW or stored != size)):
            raise CorruptError("the size of a plane does not fit its tensor")
        planes.append((codec, piece))
    return planes, payload[at:]


def _decode_literals(piece: memoryview, size: int) -> bytes | None:
    """Return the content of a frame of the compiled coder; None if it may be another one."""
    if size < LARGE or kernels.literals is None:
        return None
    plane: bytes | None = kernels.literals.decode(piece, size)
    return plane


def _decompress(pieces: Sequence[memoryview], sizes: Sequence[int]) -> Sequence[Buffer]:
    """Decompress frames whose contents must have these sizes, with a single call if there are several large ones."""
    zstandard = zstd()
    tool = _decompressor()
    try:
        if list(map(zstandard.frame_content_size, pieces)) != [*sizes]:
            raise CorruptError("the size of a plane does not fit its tensor")
        together = len(pieces) > 1 and sum(sizes) >= MANY
        if together and "multi_decompress_to_buffer" in zstandard.backend_features:
            packed_sizes = struct.pack(f"<{len(sizes)}Q", *sizes)
            return tool.multi_decompress_to_buffer(pieces, decompressed_sizes=packed_sizes)  # type: ignore[no-any-return]
        return [tool.decompress(piece, max_output_size=size) for piece, size in zip(pieces, sizes, strict=True)]
    except zstandard.ZstdError as error:
        raise CorruptError(f"a chunk cannot be decompressed: {error}") from error


def _decompressor() -> Any:
    """Return the decompressor of this thread: it has state and must not be shared."""
    if not hasattr(_local, "decompressor"):
        zstandard = zstd()
        _local.decompressor = zstandard.ZstdDecompressor()
    return _local.decompressor
