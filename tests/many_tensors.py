"""Versions of a model of many small tensors, which are stored as bundles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from git_theta_ext.model.bundle import Bundle
from git_theta_ext.model.tensor import Digest, TensorSpec, tensor_digest
from git_theta_ext.store.maintenance.cheapest import Candidate
from git_theta_ext.store.maintenance.recode import Recoder
from git_theta_ext.store.packs.reader import read_pack_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from helpers import Tensor

    from git_theta_ext.store.packs.format import Entry
    from git_theta_ext.store.store import Store

    Item = tuple[TensorSpec, Digest, bytes]
    """Spec, digest and bytes of a tensor."""
    Versions = Sequence[Sequence[Item]]

COUNT, ELEMENTS = 60, 256
SPEC = TensorSpec.of("F32", (ELEMENTS,))


def item(values: np.ndarray) -> Item:
    """Return a tensor of floats as the store takes it."""
    return SPEC, tensor_digest(SPEC, values.data), values.tobytes()


def evolution(*changed: Iterable[int], seed: int = 0) -> list[list[Item]]:
    """Return versions of a model of many tensors: in each, those of the given numbers move a little."""
    draw = np.random.default_rng(seed)
    values = [draw.normal(0, 0.05, ELEMENTS).astype("<f4") for _ in range(COUNT)]
    versions = [[item(value) for value in values]]
    for numbers in changed:
        for number in numbers:
            values[number] = values[number] + draw.normal(0, 1e-5, ELEMENTS).astype("<f4")
        versions.append([item(value) for value in values])
    return versions


def named(items: Sequence[Item]) -> dict[str, Tensor]:
    """Return the tensors of a version as those of a checkpoint."""
    return {f"norm.{number}": ("F32", SPEC.shape, data) for number, (_, _, data) in enumerate(items)}


def put(store: Store, versions: Versions) -> None:
    """Store each version as a commit of its own would."""
    for items in versions:
        store.put(items)


def groups(versions: Versions) -> Iterator[list[Candidate]]:
    """Yield what is new in each version, with the same tensor of earlier versions as parents, the latest first."""
    seen: set[Digest] = set()
    for at, items in enumerate(versions):
        fresh = [number for number, (_, digest, _) in enumerate(items) if digest not in seen]
        seen.update(digest for _, digest, _ in items)
        earlier = versions[:at][::-1]
        yield [
            Candidate(items[number][1], SPEC, tuple(dict.fromkeys((old[number][1], SPEC) for old in earlier)))
            for number in fresh
        ]


def digests(versions: Versions) -> set[Digest]:
    """Return the digests of all tensors."""
    return {digest for items in versions for _, digest, _ in items}


def recoder(store: Store, versions: Versions, depth: int = 4, **options: object) -> Recoder:
    """Return what recodes some versions in a store."""
    return Recoder(store, depth, stored=store.stored_as(digests(versions)), **options)


def entries(store: Store) -> list[Entry]:
    """Return the entries of all packs of a store."""
    return [entry for _, path in store.pack_files() for entry in read_pack_header(path).entries]


def bundle_of(items: Sequence[Item]) -> Bundle:
    """Return the bundle of some tensors."""
    return Bundle.of([(spec, digest) for spec, digest, _ in items])


def holds(store: Store, versions: Versions) -> bool:
    """Return whether a store has all tensors."""
    return all(store.read(digest, spec) == data for items in versions for spec, digest, data in items)
