"""The libraries whose tensors the Python API returns: torch and numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from git_theta_ext.errors import FormatError, UsageError
from git_theta_ext.merging.devices.state_dicts import to_bytes, to_tensor
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.operations.conversion.arrays import ELEMENT_TYPES
from git_theta_ext.records import dataclass
from git_theta_ext.util.libraries import require

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from typing_extensions import TypeIs


Tensor = TypeVar("Tensor")
Tensor_co = TypeVar("Tensor_co", covariant=True)

_TORCH = ("pt", "torch", "pytorch")
_NUMPY = ("np", "numpy")
_PACKED = "F4"
_ML_DTYPES = {_PACKED: "float4_e2m1fn"}


class Framework(Protocol[Tensor_co]):
    """Makes tensors of one library, on one device."""

    def tensor(self, spec: TensorSpec, data: bytearray | memoryview) -> Tensor_co:
        """Return a tensor, which may share the memory of its little-endian bytes.

        Raises:
            FormatError: The library does not have the element type.
            LibraryError: The element type needs a library that is not installed.
        """


def framework_of(name: str, device: Any, dtype: Any) -> Framework[Any]:
    """Return the library that a caller names.

    Args:
        name: ``pt`` or ``np``, or another name that safetensors has for them.
        device: A device of torch.
        dtype: The type that floating-point tensors are converted to; None for their own.

    Raises:
        UsageError: The library, device or type does not exist.
        LibraryError: The library is not installed.
    """
    if name in _TORCH:
        require("torch", f'framework="{name}"')
        return _Torch.of(device, dtype)
    if name not in _NUMPY:
        raise UsageError(f"unknown framework {name!r}", hint=f"use one of {', '.join((*_TORCH, *_NUMPY))}")
    if str(device) != "cpu":
        raise UsageError(f"numpy has no device {str(device)!r}", hint='framework="pt"')
    return _Numpy(None if dtype is None else _numpy_type(dtype))


@dataclass(frozen=True)
class _Torch:
    device: torch.device
    dtype: torch.dtype | None

    @classmethod
    def of(cls, device: Any, dtype: Any) -> _Torch:
        import torch

        try:
            place = torch.device(device)
            torch.empty(0, device=place)
        except (RuntimeError, AssertionError, TypeError) as error:  # torch without CUDA raises the second
            raise UsageError(f"torch has no device {str(device)!r}: {error}", hint='device="cpu"') from error
        kind = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
        if dtype is not None and not (isinstance(kind, torch.dtype) and kind.is_floating_point):
            raise _not_floating(dtype)
        return cls(place, kind)

    def tensor(self, spec: TensorSpec, data: bytearray | memoryview) -> torch.Tensor:
        made = to_tensor(spec, data)
        if spec.dtype.kind != "float" or self.dtype is None:
            return made.to(self.device)
        try:
            return made.to(self.device, self.dtype)
        except NotImplementedError as error:
            raise FormatError(f"torch does not convert {spec.dtype.name} to {self.dtype}") from error


@dataclass(frozen=True)
class _Numpy:
    dtype: np.dtype[Any] | None

    def tensor(self, spec: TensorSpec, data: bytearray | memoryview) -> NDArray[Any]:
        import numpy as np

        name = (ELEMENT_TYPES | _ML_DTYPES).get(spec.dtype.name)
        if name is None:
            raise FormatError(f"numpy does not have the element type {spec.dtype.name}")
        kind = _named(name)
        values = np.frombuffer(data, np.uint8) if spec.nbytes else np.empty(0, np.uint8)
        if spec.dtype.name == _PACKED:
            values = np.stack([values & 15, values >> 4], axis=-1).reshape(-1)
        array = values.view(kind).reshape(spec.shape)
        return array if spec.dtype.kind != "float" or self.dtype is None else array.astype(self.dtype, copy=False)


def array_bytes(name: str, array: NDArray[Any]) -> tuple[TensorSpec, memoryview]:
    """Return an array's spec and its little-endian bytes, which may share its memory.

    Raises:
        FormatError: Checkpoints do not support its element type.
    """
    import numpy as np

    names = {text: kind for kind, text in ELEMENT_TYPES.items()}
    if array.dtype.name not in names:
        raise FormatError(
            f"parameter {name!r} is an array of {array.dtype.name}, which is not supported", hint="leave it out"
        )
    flat = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
    return TensorSpec.of(names[array.dtype.name], array.shape), flat.view(np.uint8).data


def is_array(value: object) -> TypeIs[NDArray[Any]]:
    """Return whether a value is an array of numpy."""
    import numpy as np

    return isinstance(value, np.ndarray)


def value_bytes(name: str, value: torch.Tensor | NDArray[Any]) -> tuple[TensorSpec, memoryview]:
    """Return spec and little-endian bytes of an array of numpy or a tensor of torch; they may share its memory.

    Raises:
        FormatError: Checkpoints do not support its element type, or it is not dense.
        UsageError: It is neither an array nor a tensor.
    """
    if is_array(value):
        return array_bytes(name, value)
    import torch

    if not isinstance(value, torch.Tensor):
        raise UsageError(
            f"parameter {name!r} is a {type(value).__name__}, not a tensor of torch or an array of numpy",
            hint="numpy.asarray(value)",
        )
    return to_bytes(name, value)


def _named(name: str) -> np.dtype[Any]:
    """Return a type of numpy, or of ml_dtypes, which adds to these.

    Raises:
        LibraryError: ml_dtypes has it, and is not installed.
        UsageError: Neither has it.
    """
    import numpy as np

    if hasattr(np, name):
        return np.dtype(name)
    require("ml_dtypes", f"numpy with elements of {name}")
    import ml_dtypes

    if not hasattr(ml_dtypes, name):
        raise _not_floating(name)
    kind: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return kind


def _numpy_type(dtype: Any) -> np.dtype[Any]:
    import numpy as np

    try:
        kind = _named(dtype) if isinstance(dtype, str) else np.dtype(dtype)
    except TypeError as error:
        raise _not_floating(dtype) from error
    # The types of ml_dtypes are of the kind V, with a name.
    if kind.kind != "f" and not (kind.kind == "V" and kind.name.startswith(("bfloat", "float"))):
        raise _not_floating(dtype)
    return kind


def _not_floating(dtype: Any) -> UsageError:
    return UsageError(f"{dtype} is not a floating-point type", hint='dtype="float32"')
