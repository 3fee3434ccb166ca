"""Decode entries of packs one by one, and report which of them match their digests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from git_theta_ext.errors import CorruptError, MissingError, PluginError
from git_theta_ext.model.tensor import TensorHasher
from git_theta_ext.store.deltas.chains import ancestors
from git_theta_ext.store.packs.reader import blob_digest, wrong_tensor
from git_theta_ext.store.part_blobs import find_blobs
from git_theta_ext.store.read_ahead import read_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from git_theta_ext.errors import ThetaError
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.deltas.decode import Decoder
    from git_theta_ext.store.locations import Copy, Location
    from git_theta_ext.store.packs.reader import StoredBlob

    Chosen = Mapping[Digest, Location]
    Find = Callable[[Digest, Location], StoredBlob]

    class Examiner(Protocol):
        """Decodes entries of packs elsewhere."""

        def outcomes(
            self, find: Find, copies: Sequence[Copy], trusted: Chosen, *, advance: Callable[[int], None]
        ) -> Iterator[ThetaError | OSError | None]:
            """Yield for each entry the error, or None if it is sound; see ``outcomes``."""


UNREADABLE = (CorruptError, MissingError, PluginError)
"""Errors of reading a stored tensor that do not concern other tensors."""


WORTH = 1 << 25
"""Stored bytes from which on decoding them elsewhere may take less time than here."""


def outcomes(  # noqa: PLR0913 - named
    decoder: Decoder,
    find: Find,
    copies: Sequence[Copy],
    trusted: Chosen,
    *,
    threads: int,
    advance: Callable[[int], None],
) -> Iterator[ThetaError | OSError | None]:
    """Decode entries of packs, and yield for each the error, or None if it is sound.

    Args:
        decoder: Decodes chunks.
        find: Returns the blob at a location.
        copies: Digest and location of each entry. A digest may have several.
        trusted: The locations that bases are decoded from.
        threads: Number of threads.
        advance: Called with the number of bytes that were decoded since the last call.
    """
    at = 0
    while at < len(copies):
        try:
            for error in _decoded(decoder, find, copies[at:], trusted, threads, advance):
                at += 1
                yield error
        except (*UNREADABLE, OSError) as error:  # noqa: PERF203 - an error of one entry; the others are still decoded
            at += 1
            yield error


def lacks_plugin(error: BaseException | None) -> bool:
    """Return whether an error is caused by a plug-in that is not installed."""
    return error is not None and (isinstance(error, PluginError) or lacks_plugin(error.__cause__))


def is_damage(error: BaseException | None) -> bool:
    """Return whether an error means damage, and not that a plug-in is not installed."""
    return isinstance(error, CorruptError) and not lacks_plugin(error)


class _Here(str):
    """The digest of one entry, which differs from the same digest of another entry."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def _decoded(  # noqa: PLR0913, PLR0917 - as outcomes
    decoder: Decoder,
    find: Find,
    copies: Sequence[Copy],
    trusted: Chosen,
    threads: int,
    advance: Callable[[int], None],
) -> Iterator[CorruptError | None]:
    """Decode entries up to the first that fails, and compare each with its digest."""
    wanted, blobs = _found(find, copies, trusted)
    groups = [((here, blobs[here].entry.spec),) for here in wanted]
    hasher: TensorHasher | None = None
    actual: Digest | None = None
    for piece in read_ahead(decoder, groups, blobs, threads=threads, verify=False):
        path, entry = blobs[wanted[piece.group]]
        if not piece.chunks:
            if actual is None:
                actual = (hasher or TensorHasher(entry.spec)).digest()
            yield None if actual == entry.digest else wrong_tensor(path.name, entry.digest)
            hasher = actual = None
            continue
        data = piece.data
        if data.nbytes == entry.spec.nbytes:
            actual = blob_digest(entry, data)
            if actual == entry.digest:
                decoder.keep_small(entry.digest, data, path.name)
        else:
            hasher = hasher or TensorHasher(entry.spec)
            hasher.update(data)
        advance(data.nbytes)


def _found(find: Find, copies: Sequence[Copy], trusted: Chosen) -> tuple[Sequence[Digest], Mapping[Digest, StoredBlob]]:
    """Return entries up to the first whose pack cannot be read, and the blobs of these and all that they depend on."""
    blobs: dict[Digest, StoredBlob] = {}
    wanted: list[Digest] = []
    for digest, location in copies:
        here = cast("Digest", _Here(digest))
        try:
            if not all(map(blobs.__contains__, location.bases)):  # with all that these depend on
                blobs |= find_blobs(ancestors(location.bases, trusted), trusted, find)
            blobs[here] = find(digest, location)
        except (*UNREADABLE, OSError):
            if not wanted:
                raise
            break
        wanted.append(here)
    return wanted, blobs
