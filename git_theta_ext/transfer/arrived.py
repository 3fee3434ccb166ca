"""Verify fetched packs before anything relies on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.store.locations import Verdict, flattened
from git_theta_ext.store.maintenance.copying import copies

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location
    from git_theta_ext.store.store import Store


def keep_sound(store: Store, names: Collection[str]) -> dict[str, str]:
    """Decode the entries of fetched packs if all that they depend on is in the store.

    A pack with a bad entry is removed, so that it is not pushed elsewhere. Its sound entries are copied to another
    pack.
    Entries that cannot be decoded yet are decoded when they are needed, and not relied on before.

    Returns:
        The errors of packs, by name.

    Raises:
        StoreError: The store cannot be written.
    """
    held = [entry for entry in _entries(store, names) if entry[1].verdict is Verdict.UNKNOWN]
    store.prove({base for _, location in held for base in location.bases} - {digest for digest, _ in held})
    wrong: dict[str, str] = {}
    for (_, location), error in store.judge(held).bad().items():
        wrong.setdefault(location.pack, str(error))
    if wrong:
        whole = [location for _, location in _entries(store, wrong) if location.verdict is Verdict.SOUND]
        store.write(copies(store, whole), loose=False)
        store.drop(wrong)
    return wrong


def _entries(store: Store, names: Iterable[str]) -> list[tuple[Digest, Location]]:
    """Return digest and location of the entries of some packs of a store, without those known to be bad."""
    packs = {(str(store.root), name) for name in names}
    digests = {entry.digest for _, name in packs for entry in store.reader.header(store.pack_path(name)).entries}
    return [entry for entry in flattened(store.locations(digests)) if entry[1].pack_id in packs]
