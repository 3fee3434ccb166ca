"""Hold the values of a small merge in memory: each step would look them up, decode and verify them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.store.holding import HoldingStore
from git_theta_ext.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_theta_ext.model.manifest import Parameter
    from git_theta_ext.store.tensor_store import TensorStore

SMALL = 1 << 22
"""Bytes of values that are held."""


def held_bytes(values: Iterable[Parameter]) -> int:
    """Return the bytes that holding some values takes."""
    nbytes = sum({value.digest: value.spec.nbytes for value in values}.values())
    return nbytes if nbytes <= SMALL else 0


def in_memory(store: TensorStore, groups: Sequence[Sequence[Parameter]]) -> list[list[memoryview]]:
    """Return the bytes of each value of some groups that a store has in memory; nothing if they are not there or large.

    Args:
        store: Holds the values.
        groups: The values.
    """
    members = [member for group in groups for member in group]
    if not isinstance(store, MemoryStore) or sum([member.spec.nbytes for member in members]) > SMALL:
        return []
    if store.touch_and_find_missing([member.digest for member in members]):
        return []
    return [[store.read(member.digest, member.spec) for member in group] for group in groups]


def held(store: TensorStore, values: Iterable[Parameter]) -> TensorStore:
    """Return a store from which some values are read: one in memory if they are small.

    If a value is missing or damaged, it is ``store``, so that whoever needs that value finds out.

    Args:
        store: Holds the values.
        values: The values.
    """
    wanted = list({value.digest: value.spec for value in values}.items())
    if isinstance(store, MemoryStore) or sum(spec.nbytes for _, spec in wanted) > SMALL:
        return store
    memory = store.memory_of(wanted) if isinstance(store, HoldingStore) else None
    if memory is not None:
        return memory
    data = [bytearray() for _ in wanted]
    try:
        for piece in store.read_aligned([(tensor,) for tensor in wanted]):
            if piece.chunks:
                data[piece.group] += piece.data
    except (MissingError, CorruptError):
        return store
    memory = MemoryStore(store.threads)
    memory.put([(spec, digest, room) for (digest, spec), room in zip(wanted, data, strict=True)])
    return memory
