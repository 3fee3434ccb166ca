"""Compare tensors that several processes saved in pieces, such as those of torch.distributed, as whole tensors."""

from __future__ import annotations

import posixpath
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import MissingError, ThetaError
from git_theta_ext.model.manifest import Parameter
from git_theta_ext.model.tensor import Digest, TensorHasher
from git_theta_ext.model.tensor_pieces import JoinedTensor
from git_theta_ext.operations.diff.sides import Side
from git_theta_ext.records import dataclass, field, replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from git_theta_ext.operations.diff.trees import Tree
    from git_theta_ext.store.store import Store

_UNCHANGED = Digest("0" * 64)
"""The digest of a tensor whose pieces are the same on both sides, which is not computed."""


@dataclass(frozen=True)
class _Tensor:
    """A tensor in pieces, and what has their values."""

    tensor: JoinedTensor
    holders: Mapping[str, tuple[str, Side]]
    store: Store

    def read(self, name: str, parameter: Parameter) -> memoryview:
        """Return the bytes of a piece.

        Raises:
            MissingError: They are neither in the store nor in a file.
        """
        if not self.store.touch_and_find_missing({parameter.digest}):
            return memoryview(self.store.read(parameter.digest, parameter.spec))
        values = self.holders[name][1].values(name, parameter)
        if values is None:
            raise MissingError(f"{name} is not in this repository", hint="git theta checkout")
        return memoryview(b"".join(values))

    @property
    def path(self) -> str:
        """The file that has the first piece."""
        return self.holders[self.tensor.pieces[0][0].name][0]

    def digest(self) -> Digest:
        """Return the digest of the tensor."""
        hasher = TensorHasher(self.tensor.spec)
        for _, chunk in self.tensor.chunks(self.read):
            hasher.update(chunk)
        return hasher.digest()


@dataclass(frozen=True)
class _JoinedSide(Side):
    """One version of a file with the tensors of which it has the first piece."""

    joined: Mapping[str, _Tensor] = field(default_factory=dict)

    def values(self, name: str, parameter: Parameter) -> Iterator[memoryview] | None:
        """Return a tensor's bytes, which are here, because its digest was computed from them."""
        if name not in self.joined:
            return super().values(name, parameter)
        return (chunk for _, chunk in self.joined[name].tensor.chunks(self.joined[name].read))


def join_pieces(store: Store, old: Tree, new: Tree) -> None:
    """Join the pieces of tensors in both trees, so that versions of different numbers of processes are compared.

    Tensors of which a piece is not available stay in pieces.
    """
    for index in sorted(old.indexes.keys() | new.indexes.keys()):
        before, after = _tensors(store, old, index), _tensors(store, new, index)
        same = {name for name in before.keys() & after.keys() if before[name].tensor == after[name].tensor}
        digests = _digests(before, same), _digests(after, same)
        unread = (before.keys() - digests[0].keys()) | (after.keys() - digests[1].keys())
        for tree, tensors, known in ((old, before, digests[0]), (new, after, digests[1])):
            _join(tree, {name: tensor for name, tensor in tensors.items() if name not in unread}, known)


def _tensors(store: Store, tree: Tree, index: str) -> dict[str, _Tensor]:
    """Return the tensors in pieces of a model."""
    found = tree.indexes.get(index)
    if found is None or not found.tensors:
        return {}
    paths = {posixpath.join(posixpath.dirname(index), file) for file in found.weight_map.values()}
    sides = {path: tree.checkpoints[path] for path in sorted(paths & tree.checkpoints.keys())}
    manifests = {path: side.manifest for path, side in sides.items() if side.manifest is not None}
    parameters = {name: value for manifest in manifests.values() for name, value in manifest.parameters.items()}
    holders = {name: (path, sides[path]) for path, manifest in manifests.items() for name in manifest.parameters}
    joined = {name: JoinedTensor.of(tensor, parameters) for name, tensor in found.tensors.items()}
    return {name: _Tensor(one, holders, store) for name, one in joined.items() if one is not None}


def _digests(tensors: Mapping[str, _Tensor], same: AbstractSet[str]) -> dict[str, Digest]:
    """Return the digests of the tensors that can be read; those in ``same`` are not read."""
    digests = dict.fromkeys(same, _UNCHANGED)
    for name in tensors.keys() - same:
        with suppress(ThetaError):
            digests[name] = tensors[name].digest()
    return digests


def _join(tree: Tree, tensors: Mapping[str, _Tensor], digests: Mapping[str, Digest]) -> None:
    """Replace the pieces of tensors in the files of a tree by the tensors."""
    pieces = {name for tensor in tensors.values() for name in tensor.tensor.names}
    by_path: dict[str, dict[str, _Tensor]] = {}
    for name, tensor in tensors.items():
        by_path.setdefault(tensor.path, {})[name] = tensor
    for path in {home for tensor in tensors.values() for home, _ in tensor.holders.values()}:
        side, joined = tree.checkpoints[path], by_path.get(path, {})
        assert side.manifest is not None
        kept = {name: value for name, value in side.manifest.parameters.items() if name not in pieces}
        whole = {name: Parameter(tensor.tensor.spec, digests[name]) for name, tensor in joined.items()}
        manifest = replace(side.manifest, parameters={**kept, **whole})
        tree.checkpoints[path] = _JoinedSide(
            manifest, side.path, side.format_name, side.opened, side.names, side.root, joined
        )
