"""Packs that have come from a remote: decoded before anybody relies on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.store.deltas.chains import Verdict
from git_theta_ext.store.maintenance.copying import copies

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.deltas.chains import Holder
    from git_theta_ext.store.store import Store


def keep_sound(store: Store, names: Collection[str]) -> dict[str, str]:
    """Decode what fetched packs hold, as far as all that it leans on is here.

    Of a pack that holds something else than it says, what is sound is copied out and the pack goes: it is not to be
    handed on. What could not be decoded yet is decoded when somebody asks for it, and counts for nothing before.

    Returns:
        What is wrong with packs, by name.

    Raises:
        StoreError: The store cannot be written.
    """
    held = [each for each in _entries(store, names) if each[1].verdict is Verdict.UNKNOWN]
    store.prove({base for _, holder in held for base in holder.bases} - {digest for digest, _ in held})
    wrong: dict[str, str] = {}
    for (_, holder), error in store.judge(held).bad().items():
        wrong.setdefault(holder.pack, str(error))
    if wrong:
        whole = [holder for _, holder in _entries(store, wrong) if holder.verdict is Verdict.SOUND]
        store.write(copies(store, whole), loose=False)
        store.drop(wrong)
    return wrong


def _entries(store: Store, names: Iterable[str]) -> list[tuple[Digest, Holder]]:
    """Return what some packs of a store hold, as far as it is not known to be bad."""
    packs = {(str(store.root), name) for name in names}
    digests = {entry.digest for _, name in packs for entry in store.reader.header(store.pack_path(name)).entries}
    found = store.holders(digests).items()
    return [(digest, holder) for digest, held in found for holder in held if (holder.root, holder.pack) in packs]
