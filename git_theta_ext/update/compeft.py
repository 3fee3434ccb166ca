"""Updates of signs and one scale for all (ComPEFT, Yadav et al., arXiv 2311.13171): the file that holds them.

A safetensors file. Its metadata has ``kind`` ("git-theta compeft 1"), ``scale``, ``density`` and ``alpha`` as decimal
numbers, and ``shapes``, a JSON object with the shape of each parameter. A tensor ``NAME``, of bytes, has the signs of
the parameter ``NAME``: for each 2^19 elements the size of what follows in four bytes, little-endian, and their signs
as ``git_theta_ext.model.packed_signs`` packs them.
"""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, FormatError
from git_theta_ext.interfaces import Fit
from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.model.floats import round_once, to_float64
from git_theta_ext.model.packed_signs import pack_signs, unpack_signs
from git_theta_ext.update.change import Change, check_float
from git_theta_ext.update.names import Names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from git_theta_ext.model.tensor import TensorSpec
    from git_theta_ext.update.files import Tensor, UpdateFile

KIND = "git-theta compeft 1"
PIECE = 1 << 19
"""Elements whose signs are packed together: those of a chunk."""

_SIZE = struct.Struct("<I")


def framed_signs(signs: NDArray[np.int8]) -> bytes:
    """Pack the signs of at most PIECE elements, preceded by the size of what that gives."""
    packed = pack_signs(signs)
    return _SIZE.pack(len(packed)) + packed


def file_head(
    shapes: Mapping[str, Sequence[int]], sizes: Mapping[str, int], scale: float, density: float, alpha: float
) -> bytes:
    """Return what a file has before the signs.

    Args:
        shapes: Of each parameter that has signs.
        sizes: Bytes of each one's signs, in the order in which they follow.
        scale: By which they are multiplied.
        density: The share of elements that was asked for.
        alpha: The scale as a multiple of the task vector's standard deviation.
    """
    texts = {
        "kind": KIND,
        "scale": repr(scale),
        "density": repr(density),
        "alpha": repr(alpha),
        "shapes": json.dumps({name: list(shapes[name]) for name in sizes}, separators=(",", ":")),
    }
    header: dict[str, object] = {"__metadata__": texts}
    at = 0
    for name, size in sizes.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read_compeft(file: UpdateFile, parameters: Mapping[str, TensorSpec]) -> dict[str, Change]:
    """Return what a file of signs makes of a checkpoint's parameters.

    Args:
        file: As ``git theta compress`` writes it.
        parameters: The checkpoint's.

    Returns:
        A change for each parameter, by its name in the checkpoint.

    Raises:
        FormatError: The file contradicts itself, or does not fit a parameter, which is named.
        UsageError: It names a parameter that the checkpoint does not have.
    """
    if file.metadata.get("kind") != KIND:
        raise FormatError("not a file of signs", hint="git theta compress --compeft writes them")
    scale = _scale(file)
    shapes = _shapes(file)
    names = Names(parameters)
    changes: dict[str, Change] = {}
    for key, tensor in file.tensors.items():
        name = names.get(key)
        spec = parameters[name]
        check_float(name, spec)
        if name in changes:
            raise FormatError(f"two values for {name!r}")
        if shapes.get(key) != list(spec.shape):
            raise FormatError(f"parameter {name!r} is {spec}, and the update's {shapes.get(key)!r:.80}")
        changes[name] = _change(name, spec, tensor, scale)
    return changes


def _scale(file: UpdateFile) -> float:
    try:
        scale = float(file.metadata["scale"])
    except (KeyError, ValueError):
        scale = math.nan
    if not 0 < scale < math.inf:
        raise FormatError("its metadata has no scale that is a finite number above zero")
    return scale


def _shapes(file: UpdateFile) -> Mapping[str, object]:
    try:
        shapes = read_json(file.metadata["shapes"])
    except (KeyError, ValueError):
        shapes = None
    if not isinstance(shapes, dict):
        raise FormatError("its metadata has no shapes")
    return shapes


def _change(name: str, spec: TensorSpec, signs: Tensor, scale: float) -> Change:
    frames = _frames(name, signs.data, -(-spec.elements // PIECE))

    def apply(_: TensorSpec, offset: int, old: memoryview, out: memoryview) -> None:
        import numpy as np

        width = spec.dtype.bits // 8
        found = _unpacked(name, frames[offset // width // PIECE], out.nbytes // width)
        out[:] = old
        elements = np.frombuffer(out, np.dtype((np.void, width)))
        moved = np.flatnonzero(found)
        values = to_float64(memoryview(elements[moved].tobytes()), spec.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            values += scale * found[moved]
        elements[moved] = np.frombuffer(round_once(values, spec.dtype), elements.dtype)

    return Change("ternary", apply, Fit({"scale": scale}))


def _unpacked(name: str, frame: memoryview, count: int) -> NDArray[np.int8]:
    try:
        return unpack_signs(frame, count)
    except CorruptError as error:
        raise FormatError(f"the update's signs of {name!r}: {error.message}") from error


def _frames(name: str, data: memoryview, count: int) -> list[memoryview]:
    frames: list[memoryview] = []
    at = 0
    while len(frames) < count and at + _SIZE.size <= data.nbytes:
        start = at + _SIZE.size
        at = start + _SIZE.unpack_from(data, at)[0]
        frames.append(data[start:at])
    if len(frames) != count or at != data.nbytes:
        raise FormatError(f"the update's signs of {name!r} are not those of {count} pieces")
    return frames
