"""Make locations of rows of the index."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from git_theta_ext.model.tensor import digest_of
from git_theta_ext.store.locations import Location, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from git_theta_ext.store.locations import Locations

_VERDICTS = {int(verdict): verdict for verdict in Verdict}


def grouped(
    rows: Iterable[tuple[bytes, str | bytes, str, int, int, bytes, int]], root_of: Callable[[str | bytes], str]
) -> Locations:
    """Return the locations of each digest, given rows of the table of blobs with their packs.

    There are many rows of each pack. They share the texts that name it, which are hashed and compared often.
    """
    groups: dict[str, tuple[Location, ...]] = {}
    roots: dict[str | bytes, str] = {}
    names: dict[str, str] = {}
    verdicts, unknown, make = _VERDICTS, Verdict.UNKNOWN, tuple.__new__
    for digest, root, name, entry, stored, raw, verdict in rows:
        if root not in roots:
            roots[root] = root_of(root)
        bases = tuple([digest_of(raw[at : at + 32]) for at in range(0, len(raw), 32)]) if raw else ()
        fields = roots[root], names.setdefault(name, name), entry, stored, bases, verdicts.get(verdict, unknown)
        location = make(Location, fields)  # which takes half as long as calling the class
        key = digest_of(digest)
        groups[key] = (*groups[key], location) if key in groups else (location,)
    return cast("Locations", groups)
