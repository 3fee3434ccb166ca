"""A version of a model that was opened in Python: tensors and parts of tensors are read when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic

from git_theta_ext.api.frameworks import Tensor
from git_theta_ext.api.versions import explained
from git_theta_ext.errors import FormatError
from git_theta_ext.model.selection import Selection, copyable
from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.operations.model_reader import chunks_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Self

    from git_theta_ext.api.frameworks import Framework
    from git_theta_ext.operations.model_reader import ModelReader


class Model(Mapping[str, Tensor], Generic[Tensor]):
    """A version of a model, whose tensors are read when they are accessed; ``git_theta_ext.open`` returns it.

    Besides the methods of a mapping it has those of ``safetensors.safe_open``. Each access reads the tensor again, and
    returns one with memory of its own. Several threads may use a model at the same time. A ``with`` statement closes
    it.
    """

    def __init__(self, title: str, reader: ModelReader, framework: Framework[Tensor]) -> None:
        self._title = title
        self._reader = reader
        self._framework = framework

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Element type and shape of each tensor by name, which takes no reading."""
        return dict(self._reader.specs)

    @explained()
    def fetch(self, names: Iterable[str] | None = None) -> None:
        """Fetch tensors that are not here, together with what they are deltas of, in few requests.

        Args:
            names: Their names; None for all.

        Raises:
            KeyError: There is no such tensor.
            ThetaError: A tensor is neither here nor on a remote.
        """
        self._reader.fetch(list(self if names is None else names))

    @explained()
    def get_tensors(self, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Read several tensors: they are fetched in few requests, and decoded in parallel.

        Args:
            names: Their names; None for all.

        Raises:
            KeyError: There is no such tensor.
            ThetaError: A tensor is neither here nor on a remote, or damaged.
        """
        wanted = list(self if names is None else dict.fromkeys(names))
        found = {}
        for name, data in self._reader.read(wanted):
            found[name] = self._tensor(name, data)
            del data  # another device has it now; the next one is read meanwhile
        return {name: found[name] for name in wanted}

    @explained()
    def get_tensor(self, name: str) -> Tensor:
        """Read a tensor.

        Raises:
            KeyError: There is no such tensor.
            ThetaError: It is neither here nor on a remote, or damaged.
        """
        ((_, data),) = self._reader.read([name])
        return self._tensor(name, data)

    @explained()
    def get_slice(self, name: str) -> TensorSlice[Tensor]:
        """Return a tensor of which parts are read by indexing, such as ``get_slice(name)[:8]``.

        Raises:
            KeyError: There is no such tensor.
            FormatError: Its elements do not fill whole bytes each.
        """
        spec = self._reader.specs[name]
        if not copyable(spec.dtype.bits):
            raise FormatError(
                f"{name}: elements of {spec.dtype.name} cannot be read in part", hint="read it whole: get_tensor"
            )
        return TensorSlice(name, self._reader, self._framework)

    def __getitem__(self, name: str) -> Tensor:
        """Read a tensor; see ``get_tensor``."""
        return self.get_tensor(name)

    def __contains__(self, name: object) -> bool:
        """Return whether there is such a tensor, without reading it."""
        return name in self._reader.specs

    def __iter__(self) -> Iterator[str]:
        """Return the names."""
        return iter(self._reader.specs)

    def __len__(self) -> int:
        """Return the number of tensors."""
        return len(self._reader.specs)

    def __repr__(self) -> str:
        """Return what it is, without reading a tensor."""
        nbytes = sum(spec.nbytes for spec in self._reader.specs.values())
        return f"<{self._title}: {len(self)} tensors, {nbytes / 1e6:.1f} MB>"

    def close(self) -> None:
        """Close the files that tensors are read from."""
        self._reader.close()

    def __enter__(self) -> Self:
        """Return the model itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the model."""
        self.close()

    def _tensor(self, name: str, data: bytearray) -> Tensor:
        return _named(name, self._framework, self._reader.specs[name], data)


class TensorSlice(Generic[Tensor]):
    """A tensor of which parts are read; ``Model.get_slice`` returns it.

    Tensors are stored in chunks of 2^19 elements. Only the chunks that a part is in are read, and the same chunks of
    what the tensor is a delta of. Such a part is not compared with the tensor's digest, which covers all of it: its
    bytes were compared when they were stored or fetched. A tensor that is not here is fetched whole.
    """

    def __init__(self, name: str, reader: ModelReader, framework: Framework[Tensor]) -> None:
        self._name = name
        self._reader = reader
        self._framework = framework

    def get_shape(self) -> list[int]:
        """Return the shape of the whole tensor."""
        return list(self._reader.specs[self._name].shape)

    def get_dtype(self) -> str:
        """Return the element type of the stored tensor, as safetensors names it, such as ``BF16``."""
        return self._reader.specs[self._name].dtype.name

    @explained()
    def __getitem__(self, index: Any) -> Tensor:
        """Read a part.

        Args:
            index: Integers, slices that go forward, ``...``, ``None`` and at most one list of integers.

        Raises:
            IndexError: An integer is out of bounds, or there are too many.
            ThetaError: The tensor is neither here nor on a remote, or damaged.
        """
        spec = self._reader.specs[self._name]
        part = Selection.of(spec.shape, index)
        out = part.buffer(spec.dtype.bits // 8)
        numbers = [number for number, start, end in chunks_of(spec) if part.needs(start, end)]
        for start, data in self._reader.read_chunks(self._name, numbers):
            part.copy(out, start, data)
        flat = out.reshape(-1).view("u1")
        return _named(self._name, self._framework, TensorSpec(spec.dtype, part.shape), flat.data)

    def __repr__(self) -> str:
        """Return name, element type and shape."""
        return f"<{self._name}: {self._reader.specs[self._name]}>"


def _named(name: str, framework: Framework[Tensor], spec: TensorSpec, data: bytearray | memoryview) -> Tensor:
    try:
        return framework.tensor(spec, data)
    except FormatError as error:
        raise FormatError(f"{name}: {error.message}", hint=error.hint) from error
