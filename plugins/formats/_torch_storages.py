"""Name the storages of a torch file by the tensors in them. Each storage is one parameter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import Dtype, TensorSpec, opaque

from ._names import FreeNames
from ._torch_objects import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ._torch_objects import Leaf, Storage


class NamedStorage(NamedTuple):
    """A storage as a parameter."""

    name: str
    storage: Storage
    spec: TensorSpec


@dataclass(slots=True)
class _Use:
    """A storage and the tensors in it.

    Attributes:
        storage: The storage.
        path: The path to ``whole``, or the first path to the storage.
        whole: The first tensor that covers it.
        same: The paths to other tensors that are the same as ``whole``.
        part: The path to a tensor that is a part of it.
    """

    storage: Storage
    path: str
    whole: Tensor | None = None
    same: list[str] = field(default_factory=list)
    part: str | None = None

    @property
    def partial(self) -> str | None:
        """Why it is not the same as one tensor; None if it is."""
        if self.whole is None:
            return "is a storage that no tensor fills in row-major order"
        return None if self.part is None else f"has the tensor {self.part!r} in it, which is a part of it"


class StorageNames:
    """Gives names to storages; those that collide are numbered.

    Args:
        swapped: Whether the values are in big-endian order. Their element types are opaque then.

    Attributes:
        partial: Why parameters are not one tensor each, by name.
        tied: Further names of tensors, each with the parameter that has the values.
    """

    def __init__(self, *, swapped: bool) -> None:
        self._swapped = swapped
        self._names = FreeNames()
        self.partial: dict[str, str] = {}
        self.tied: dict[str, str] = {}

    def name(
        self, storages: Mapping[str, Storage], leaves: Iterable[tuple[str, Leaf]], folder: str = "data"
    ) -> list[NamedStorage]:
        """Return the storages of a pickle, in its order.

        Args:
            storages: The storages by key. It may be complete only after ``leaves`` was read.
            leaves: The tensors and storages in the pickle with the paths to them.
            folder: Precedes the key of a storage that is in no container.

        Raises:
            FormatError: A tensor reaches outside its storage. The message names the parameter.
        """
        uses = _uses(leaves)
        rest = (_Use(storage, f"{folder}/{key}") for key, storage in storages.items() if key not in uses)
        named = []
        for use in (*uses.values(), *rest):
            name = self._names.take(use.path)
            named.append(NamedStorage(name, use.storage, _spec(use, swapped=self._swapped)))
            if use.partial is not None:
                self.partial[name] = use.partial
            self.tied.update(dict.fromkeys(use.same, name))
        return named


def _uses(leaves: Iterable[tuple[str, Leaf]]) -> dict[str, _Use]:
    uses: dict[str, _Use] = {}
    for path, leaf in leaves:
        storage = leaf.storage if isinstance(leaf, Tensor) else leaf
        use = uses.setdefault(storage.key, _Use(storage, path))
        if isinstance(leaf, Tensor):
            if not leaf.inside:
                raise FormatError(f"parameter {path!r} reaches outside its storage {storage.key!r}")
            if not leaf.whole:
                use.part = use.part or path
            elif use.whole is None:
                use.path, use.whole = path, leaf
            elif (leaf.dtype, leaf.shape) == (use.whole.dtype, use.whole.shape):
                use.same.append(path)
    return uses


def _spec(use: _Use, *, swapped: bool) -> TensorSpec:
    if use.whole is None:
        return TensorSpec(_ordered(use.storage.dtype, swapped=swapped), (use.storage.elements,))
    return TensorSpec(_ordered(use.whole.dtype, swapped=swapped), use.whole.shape)


def _ordered(kind: Dtype, *, swapped: bool) -> Dtype:
    """Return an element type as an opaque one if its bytes are in swapped order."""
    return opaque(kind.bits, f">{kind.name}") if swapped and kind.bits > 8 else kind  # noqa: PLR2004 - one byte
