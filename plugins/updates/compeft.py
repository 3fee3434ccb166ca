"""Signs and one scale for all parameters: ComPEFT (Yadav et al., 2023, https://arxiv.org/abs/2311.13171).

The update is a safetensors file. Its metadata has ``kind`` ("git-theta compeft 1"), ``scale``, ``density`` and
``alpha`` as decimal numbers, and ``shapes``, a JSON object with the shape of each parameter. A tensor ``NAME`` of bytes
has the signs of the parameter ``NAME``: for every 2^19 elements, the size of their packed signs in four bytes,
little-endian, and the signs as ``git_theta_ext.interfaces.pack_signs`` packs them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, FormatError
from git_theta_ext.interfaces import (
    SIGNS_PER_FRAME,
    Fit,
    ParameterNames,
    ParameterUpdate,
    TensorSpec,
    UpdateFile,
    UpdateKind,
    UpdateTensor,
    check_float_parameter,
    read_json,
    round_once,
    sign_frames,
    to_float64,
    unpack_signs,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray


_KIND = "git-theta compeft 1"


def read_compeft(file: UpdateFile, parameters: Mapping[str, TensorSpec]) -> dict[str, ParameterUpdate]:
    """Return the changes of a checkpoint's parameters by a file of signs.

    Args:
        file: A file that ``git theta compress`` wrote.
        parameters: The parameters of the checkpoint.

    Returns:
        The change of each parameter, by its name in the checkpoint.

    Raises:
        FormatError: The file contradicts itself, or does not fit a parameter. The message names the parameter.
        UsageError: The file names a parameter that the checkpoint does not have.
    """
    if file.metadata.get("kind") != _KIND:
        raise FormatError("not a ComPEFT file", hint="git theta compress --compeft writes them")
    scale = _scale(file)
    shapes = _shapes(file)
    names = ParameterNames(parameters)
    changes: dict[str, ParameterUpdate] = {}
    for key, tensor in file.tensors.items():
        name = names.get(key)
        spec = parameters[name]
        check_float_parameter(name, spec)
        if name in changes:
            raise FormatError(f"two values for {name!r}")
        if shapes.get(key) != list(spec.shape):
            raise FormatError(f"parameter {name!r} is {spec}, but the update's shape is {shapes.get(key)!r:.80}")
        changes[name] = _change(name, spec, tensor, scale)
    return changes


KIND = UpdateKind(read_compeft)


def _scale(file: UpdateFile) -> float:
    try:
        scale = float(file.metadata["scale"])
    except (KeyError, ValueError):
        scale = math.nan
    if not 0 < scale < math.inf:
        raise FormatError("the scale in its metadata is not a positive finite number")
    return scale


def _shapes(file: UpdateFile) -> Mapping[str, object]:
    try:
        shapes = read_json(file.metadata["shapes"])
    except (KeyError, ValueError):
        shapes = None
    if not isinstance(shapes, dict):
        raise FormatError("its metadata has no shapes")
    return shapes


def _change(name: str, spec: TensorSpec, signs: UpdateTensor, scale: float) -> ParameterUpdate:
    try:
        frames = sign_frames(signs.data, spec.elements)
    except CorruptError as error:
        raise FormatError(f"the update's signs of {name!r}: {error.message}") from error

    def apply(_: TensorSpec, offset: int, old: memoryview, out: memoryview) -> None:
        import numpy as np

        width = spec.dtype.bits // 8
        piece = _unpacked(name, frames[offset // width // SIGNS_PER_FRAME], out.nbytes // width)
        out[:] = old
        elements = np.frombuffer(out, np.dtype((np.void, width)))
        moved = np.flatnonzero(piece)
        values = to_float64(memoryview(elements[moved].tobytes()), spec.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            values += scale * piece[moved]
        elements[moved] = np.frombuffer(round_once(values, spec.dtype), elements.dtype)

    return ParameterUpdate("ternary", Fit({"scale": scale}), apply)


def _unpacked(name: str, frame: memoryview, count: int) -> NDArray[np.int8]:
    try:
        return unpack_signs(frame, count)
    except CorruptError as error:
        raise FormatError(f"the update's signs of {name!r}: {error.message}") from error
