"""Store bundles again without some of their tensors."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from git_theta_ext.model.bundle import Bundle
from git_theta_ext.store.deltas.decode import StoredSource
from git_theta_ext.store.packs.checked import checked_blob
from git_theta_ext.store.packs.format import GATHERED, PART, Entry
from git_theta_ext.store.packs.reader import StoredBlob, wrong_tensor
from git_theta_ext.store.packs.writer import grouped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from git_theta_ext.model.tensor import Digest, TensorSpec
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
    blobs = store.blobs(set(stored.values()).difference(stored))
    changed = dict(stored)
    made: dict[Digest, NewBlob] = {}
    for name, kept in sorted(_mixed(blobs, stored, there).items()):
        (blob,) = taken_out(store, blobs, name, kept)
        changed.update((digest, blob.digest) for _, digest in kept)
        made[blob.digest] = blob
    if made:
        missing = store.touch_and_find_missing(made)
        store.write(grouped(blob for digest, blob in made.items() if digest in missing), loose=True)
    return changed


def shares_without_others(
    store: Store, stored: Mapping[Digest, Digest], there: Callable[[set[Digest]], set[Digest]]
) -> dict[Digest, float]:
    """Return the bundles that ``without_others`` would store again, and the share of their bytes that remains.

    Raises:
        CorruptError: A bundle is damaged.
        MissingError: A bundle cannot be read.
    """
    blobs = store.blobs(set(stored.values()).difference(stored))
    return {
        name: sum(spec.nbytes for spec, _ in kept) / blobs[name].entry.spec.nbytes
        for name, kept in _mixed(blobs, stored, there).items()
    }


def _mixed(
    blobs: Blobs, stored: Mapping[Digest, Digest], there: Callable[[set[Digest]], set[Digest]]
) -> dict[Digest, list[tuple[TensorSpec, Digest]]]:
    """Return the bundles with tensors that must not leave the store, and spec and digest of the others in them."""
    counts = Counter(stored.values())
    bundles = {name: bundle for name in counts if name not in stored and (bundle := blobs[name].entry.bundle)}
    # Of most bundles all tensors are pushed, and counting them takes less time than comparing them.
    held = {name: bundle for name, bundle in bundles.items() if len(bundle) != counts[name]}
    others = set(chain.from_iterable(set(bundle.digests()).difference(stored) for bundle in held.values()))
    banned = others - there(others) if others else set()
    if not banned:
        return {}
    return {
        name: [(spec, digest) for _, spec, digest in bundle.members() if stored.get(digest) == name]
        for name, bundle in held.items()
        if not banned.isdisjoint(bundle.digests())
    }


def taken_out(
    store: Store, blobs: Blobs, source: Digest, members: Sequence[tuple[TensorSpec, Digest]], *, alone: bool = False
) -> list[NewBlob]:
    """Return blobs of some tensors of a bundle: a smaller bundle, or each alone. Writing them fails if it is damaged.

    Args:
        store: The store that decodes the bundle.
        blobs: Of the bundle and of all that it depends on.
        source: Digest of the bundle.
        members: Spec and digest of the tensors, in the order of the bundle.
        alone: Whether each gets a blob of its own.
    """
    path, entry = blobs[source]
    starts = {digest: start for start, _, digest in entry.bundle.members()} if alone and entry.bundle else {}
    if alone:
        made = [Entry(digest, spec, PART, (), 0, (source,), {"start": starts[digest]}) for spec, digest in members]
    else:
        bundle = Bundle.of(members)
        made = [Entry(bundle.digest, bundle.spec, GATHERED, (), 0, (source,), {}, bundle)]
    known = {**blobs, **{entry.digest: StoredBlob(path, entry) for entry in made}}

    def blob(digest: Digest, bundle: Bundle | None) -> NewBlob:
        wrong = partial(wrong_tensor, path.name, digest)
        return checked_blob(digest, lambda: StoredSource(store.decoder, known, digest), wrong, bundle)

    return [blob(entry.digest, entry.bundle) for entry in made]
