"""Store bundles again without some of their tensors, before a push."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.model.bundle import Bundle
from git_theta_ext.store.deltas.decode import StoredSource
from git_theta_ext.store.packs.checked import checked_blob
from git_theta_ext.store.packs.format import GATHERED, Entry
from git_theta_ext.store.packs.reader import StoredBlob, wrong_tensor
from git_theta_ext.store.packs.writer import grouped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.deltas.decode import Blobs
    from git_theta_ext.store.packs.blobs import NewBlob
    from git_theta_ext.store.store import Store


def without_others(
    store: Store, stored: Mapping[Digest, Digest], there: Callable[[set[Digest]], set[Digest]]
) -> dict[Digest, Digest]:
    """Let tensors be in bundles that have no tensors which must not leave the store, such as those of other branches.

    Args:
        store: The store.
        stored: Tensors that are pushed, and the bundle that each is in; itself if it is in none.
        there: Returns those of some digests that the remote has.

    Returns:
        The same with the bundles that the tensors are in now.

    Raises:
        CorruptError: A bundle is damaged.
        MissingError: A bundle cannot be read.
        StoreError: The store cannot be written.
    """
    bundles = {bundle for digest, bundle in stored.items() if digest != bundle}
    blobs = store.blobs(bundles) if bundles else {}
    held = {name: bundle for name in bundles if (bundle := blobs[name].entry.bundle) is not None}
    others = {digest for bundle in held.values() for _, _, digest in bundle.members()} - stored.keys()
    banned = others - there(others) if others else set()
    if not banned:
        return dict(stored)
    changed = dict(stored)
    made: dict[Digest, NewBlob] = {}
    for name, bundle in sorted(held.items()):
        members = [(spec, digest) for _, spec, digest in bundle.members()]
        if banned.isdisjoint(digest for _, digest in members):
            continue
        kept = Bundle.of([(spec, digest) for spec, digest in members if stored.get(digest) == name])
        changed.update((digest, kept.digest) for _, _, digest in kept.members())
        made[kept.digest] = _taken_out(store, blobs, name, kept)
    missing = store.touch_and_find_missing(made)
    store.write(grouped(blob for digest, blob in made.items() if digest in missing), loose=True)
    return changed


def _taken_out(store: Store, blobs: Blobs, source: Digest, bundle: Bundle) -> NewBlob:
    """Return the blob of a bundle of some tensors of another one."""
    path = blobs[source].path
    entry = Entry(bundle.digest, bundle.spec, GATHERED, (), 0, (source,), {}, bundle)
    known = {**blobs, bundle.digest: StoredBlob(path, entry)}
    wrong = partial(wrong_tensor, path.name, bundle.digest)
    return checked_blob(bundle.digest, lambda: StoredSource(store.decoder, known, bundle.digest), wrong, bundle)
