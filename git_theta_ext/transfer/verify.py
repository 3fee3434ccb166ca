"""Make sure, by asking now, that a remote holds what is about to be dropped here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError
from git_theta_ext.model.keys import pack_key
from git_theta_ext.store.chains import Holder, ancestors, shallowest
from git_theta_ext.store.packs import read_header
from git_theta_ext.store.pool import no_progress, ordered_map
from git_theta_ext.store.writer import explained, sha256_of, temporary
from git_theta_ext.transfer.remote_index import read_head, read_remote_index
from git_theta_ext.transfer.retry import retried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.blobs import Store
    from git_theta_ext.store.chains import Holders
    from git_theta_ext.store.packs import PackHeader
    from git_theta_ext.transfer.remote_index import Place

_READERS = 16


def verified(
    store: Store,
    place: Place,
    wanted: Iterable[Digest],
    *,
    download: bool = False,
    advance: Callable[[int], None] = no_progress,
) -> set[Digest]:
    """Return those digests that a remote holds at this moment, with all that they lean on there.

    What is known from earlier is not believed: the head of every pack that this relies on is read from the remote
    again, and where the pack ends.

    Args:
        store: That keeps notes on the remote.
        place: The remote.
        wanted: Digests that are of interest.
        download: Bring those packs too, and compare all their bytes with their names.
        advance: Told the size of each pack that was checked.

    Raises:
        RemoteError: The remote cannot be reached; then nothing is known.
    """
    digests = set(wanted)
    headers = dict(read_remote_index(store, place).headers)
    checked: set[str] = set()

    def sound(name: str) -> bool:
        return _is_sound(place, name, headers[name]) and (
            not download or _is_whole(store, place, name, headers[name].pack_bytes)
        )

    while True:
        chosen = shallowest(_holders(place, headers))
        needed = {chosen[digest].pack for digest in ancestors(digests & set(chosen), chosen)}
        names = sorted(needed - checked)
        if not names:
            return digests & set(chosen)
        with ThreadPoolExecutor(_READERS) as executor:
            answers = list(ordered_map(executor, sound, names, 2 * _READERS))
        for name, good in zip(names, answers, strict=True):
            advance(headers[name].pack_bytes)
            if not good:
                del headers[name]
        checked.update(names)


def _holders(place: Place, headers: Mapping[str, PackHeader]) -> Holders:
    found: dict[Digest, list[Holder]] = {}
    for name, header in headers.items():
        for number, entry in enumerate(header.entries):
            held = Holder(place.url, name, number, entry.stored, entry.bases)
            found.setdefault(entry.digest, []).append(held)
    return {digest: tuple(held) for digest, held in found.items()}


def _is_sound(place: Place, name: str, header: PackHeader) -> bool:
    """Tell whether a pack is on a remote, with this head and of the size that it gives."""
    last = header.pack_bytes - 1
    try:
        same = read_header(read_head(place, name)) == header
        return same and len(retried(lambda: place.remote.get(pack_key(name), last, last + 2))) == 1
    except (CorruptError, MissingError):
        return False


def _is_whole(store: Store, place: Place, name: str, nbytes: int) -> bool:
    """Tell whether a pack on a remote has the bytes that its name stands for."""
    path = temporary(store.root)
    try:
        with explained(path):
            retried(lambda: place.remote.fetch(pack_key(name), path, nbytes))
            return sha256_of(path) == name
    except (CorruptError, MissingError):
        return False
    finally:
        path.unlink(missing_ok=True)
