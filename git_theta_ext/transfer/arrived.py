"""Packs that have come from a remote: decoded before anybody relies on them."""

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
    """Decode what fetched packs hold, as far as all that it leans on is here.

    Of a pack that holds something else than it says, what is sound is copied out and the pack goes: it is not to be
    handed on. What could not be decoded yet is decoded when somebody asks for it, and counts for nothing before.

    Returns:
        What is wrong with packs, by name.

    Raises:
        StoreError: The store cannot be written.
    """
    held = [each for each in _entries(store, names) if each[1].verdict is Verdict.UNKNOWN]
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
    """Return what some packs of a store hold, as far as it is not known to be bad."""
    packs = {(str(store.root), name) for name in names}
    digests = {entry.digest for _, name in packs for entry in store.reader.header(store.pack_path(name)).entries}
    return [each for each in flattened(store.locations(digests)) if each[1].pack_id in packs]
