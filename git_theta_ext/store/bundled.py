"""Store many small tensors as bundles."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from git_theta_ext.errors import ChangedError
from git_theta_ext.interfaces import Chunk
from git_theta_ext.model.bundle import Bundle
from git_theta_ext.model.dtypes import SKELETON
from git_theta_ext.registry import find_encoding
from git_theta_ext.store.packs.blobs import NewBlob
from git_theta_ext.store.packs.checked import FileSource, read_together
from git_theta_ext.store.parts import FEWEST

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from typing_extensions import Buffer

    from git_theta_ext.model.tensor import Digest, TensorSpec

    Item: TypeAlias = "tuple[TensorSpec, Digest, Buffer | FileSource]"
    """Spec, digest and value of a tensor."""

Each = TypeVar("Each", bound="tuple[TensorSpec, Digest, Buffer | FileSource]")

SMALL = 1 << 16
"""Bytes of a tensor up to which it is bundled with others."""

SMALL_MATRIX = 1 << 14
"""The same of a matrix with at least ``THIN`` rows and columns: a merged LoRA in it takes fewer bytes as a ``low_rank``
delta of its own."""

THIN = 64

LARGEST = 1 << 20
"""Bytes of a bundle, which is decoded to read any of its tensors."""


def bundled(items: Iterable[Each], alone: Container[Digest] = ()) -> tuple[list[list[Each]], list[Each]]:
    """Divide tensors that are stored together into bundles, and the others.

    Args:
        items: Spec, digest and value of each, in the order of the file: those of all versions are divided alike then.
        alone: Digests of tensors that are not bundled.

    Returns:
        The tensors of each bundle, and those that are not bundled.
    """
    small: dict[str, list[Each]] = defaultdict(list)
    others: list[Each] = []
    every = list(items)
    if len(every) < FEWEST:
        return [], every
    for item in every:
        spec, digest, _ = item
        (small[spec.dtype.name] if _fits(spec) and digest not in alone else others).append(item)
    bundles: list[list[Each]] = []
    for alike in small.values():
        if len(alike) < FEWEST:
            others += alike
            continue
        room = 0
        for item in alike:
            nbytes = item[0].nbytes
            if nbytes > room:
                bundles.append([])
                room = min(LARGEST, item[0].chunk_bytes)
            bundles[-1].append(item)
            room -= nbytes
    return bundles, others


def _fits(spec: TensorSpec) -> bool:
    """Return whether a tensor of a spec is bundled with others."""
    wide = len(spec.shape) > 1 and min(spec.shape) >= THIN
    return 0 < spec.nbytes <= (SMALL_MATRIX if wide else SMALL) and spec.dtype is not SKELETON


def bundle_blob(items: Sequence[Item]) -> NewBlob:
    """Return the blob of a bundle of some tensors. Digests of values in memory are trusted."""
    bundle = Bundle.of([(spec, digest) for spec, digest, _ in items])
    spec, encoding = bundle.spec, find_encoding("dense")

    def encode(number: int) -> list[Buffer]:
        del number  # there is one chunk
        data = read_together([value for _, _, value in items])
        if any(isinstance(value, FileSource) for _, _, value in items):
            from git_theta_ext.coding.tensor_digests import wrong_member  # filters without bundles start without it

            if (wrong := wrong_member(bundle, data)) is not None:
                raise next(_changed(value) for _, digest, value in items if digest == wrong)
        return encoding.encode(Chunk(spec, 0), data)

    return NewBlob(bundle.digest, spec, encode, bundle=bundle)


def _changed(value: Buffer | FileSource) -> ChangedError:
    origin = value.origin if isinstance(value, FileSource) else "a tensor in memory"
    return ChangedError(f"{origin} changed while it was read")
