"""Read what is intact of damaged packs."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING

from git_theta_ext.store.deltas.chains import sound_first
from git_theta_ext.store.store import Store
from git_theta_ext.store.verification.examine import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest, TensorSpec
    from git_theta_ext.store.locations import Location

_TOGETHER = 1 << 26
"""Bytes of tensors out of damaged packs that are stored together."""


def salvage(store: Store, root: Path, wanted: Mapping[Digest, TensorSpec]) -> dict[Digest, str]:
    """Store again what can be read of damaged packs.

    Args:
        store: The store.
        root: A directory with the structure of a store, which has the damaged packs.
        wanted: Digest and spec of the tensors to read. Of a damaged bundle, those are read that are intact.

    Returns:
        Where each tensor that was stored again comes from.
    """
    sources: dict[Digest, str] = {}
    if not wanted or not root.exists():
        return sources
    others = dict.fromkeys([store.root, *(root for root, _ in store.pack_files())])
    with closing(Store(root, list(others), store.threads)) as aside:
        aside.refresh()
        chosen = sound_first(aside.locations(wanted))
        for batch in _batches(sorted(wanted.keys() & chosen.keys()), wanted):
            read = []
            for digest in batch:
                with suppress(*UNREADABLE):
                    read.append((wanted[digest], digest, aside.read(digest, wanted[digest])))
            store.put(read)
            sources |= {
                digest: f"the intact part of pack {place_in(chosen, digest).pack[:16]}" for _, digest, _ in read
            }
    return sources


def _batches(digests: Iterable[Digest], specs: Mapping[Digest, TensorSpec]) -> Iterator[list[Digest]]:
    """Yield tensors that are stored together: one large one, or small ones."""
    batch: list[Digest] = []
    filled = 0
    for digest in digests:
        if batch and filled + specs[digest].nbytes > _TOGETHER:
            yield batch
            batch, filled = [], 0
        batch.append(digest)
        filled += specs[digest].nbytes
    if batch:
        yield batch


def place_in(chosen: Mapping[Digest, Location], digest: Digest) -> Location:
    """Return the location of a tensor, or of the bundle that it is in."""
    location = chosen[digest]
    return location if location.pack else chosen[location.bases[0]]
