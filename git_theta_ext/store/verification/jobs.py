"""Decode entries of packs, and hash packs, in jobs that can run on other machines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from git_theta_ext.cluster.jobs import Job, divided
from git_theta_ext.errors import CorruptError, MissingError, PluginError
from git_theta_ext.store.deltas.chains import ancestors
from git_theta_ext.store.deltas.decode import Decoder
from git_theta_ext.store.packs.reader import PackReader
from git_theta_ext.store.part_blobs import find_blobs
from git_theta_ext.store.read_ahead import largest_piece
from git_theta_ext.store.verification.examine import UNREADABLE, lacks_plugin, outcomes
from git_theta_ext.util.threads import no_progress, window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from git_theta_ext.cluster.jobs import Workers
    from git_theta_ext.errors import ThetaError
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Copy, Location
    from git_theta_ext.store.packs.reader import StoredBlob
    from git_theta_ext.store.verification.examine import Chosen, Find

    Error = ThetaError | OSError | None

_KINDS = {kind.__name__: kind for kind in UNREADABLE}


@dataclass(frozen=True)
class _Finding:
    """The error of an entry; an empty kind if it is sound, and that of an ``OSError`` if there is a number."""

    kind: str = ""
    message: str = ""
    hint: str | None = None
    number: int = 0
    lacks: str = ""

    @classmethod
    def of(cls, error: Error) -> _Finding:
        if error is None:
            return cls()
        if isinstance(error, OSError):
            return cls("OSError", error.strerror or str(error), str(error.filename or ""), error.errno or 0)
        return cls(type(error).__name__, error.message, error.hint, lacks=str(error) if lacks_plugin(error) else "")

    def error(self) -> Error:
        if not self.kind:
            return None
        if self.kind == "OSError":
            return OSError(self.number, self.message, self.hint)
        error = _KINDS.get(self.kind, CorruptError)(self.message, hint=self.hint)
        if self.lacks and not isinstance(error, PluginError):
            error.__cause__ = PluginError(self.lacks)
        return error


class JobExaminer:
    """Decodes entries of packs in jobs; see ``outcomes``, whose arguments and results it has.

    Args:
        workers: Run the jobs.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def outcomes(
        self, find: Find, copies: Sequence[Copy], trusted: Chosen, *, advance: Callable[[int], None] = no_progress
    ) -> Iterator[Error]:
        """Yield the error of each entry in order, or None if it is sound."""
        blobs: dict[Copy, StoredBlob] = {}
        bases: dict[Digest, StoredBlob] = {}
        errors = [_locate(find, copy, trusted, blobs, bases) for copy in copies]
        parts = divided(list(blobs), [blob.entry.spec.nbytes for blob in blobs.values()])
        jobs = (self._job({copy: blobs[copy] for copy in part}, bases, trusted) for part in parts)
        results = self._results(parts, jobs, blobs, advance)
        for error in errors:
            yield next(results) if error is None else error

    def _job(
        self, blobs: Mapping[Copy, StoredBlob], bases: Mapping[Digest, StoredBlob], trusted: Chosen
    ) -> Job[list[_Finding]]:
        needed = {base for _, location in blobs for base in ancestors(location.bases, trusted)}
        behind = {base: (trusted[base], bases[base]) for base in needed}
        largest = max((largest_piece(blob.entry.spec, 1)[0] * 8 for blob in blobs.values()), default=0)
        memory = largest * (window(self._workers.threads) + 2)
        return Job(partial(_examine, dict(blobs), behind, self._workers.threads), memory)

    def _results(
        self,
        parts: Sequence[Sequence[Copy]],
        jobs: Iterator[Job[list[_Finding]]],
        blobs: Mapping[Copy, StoredBlob],
        advance: Callable[[int], None],
    ) -> Iterator[Error]:
        for part, findings in zip(parts, self._workers.gather(jobs), strict=True):
            for copy, finding in zip(part, findings, strict=True):
                advance(blobs[copy].entry.spec.nbytes)
                yield finding.error()


def _locate(
    find: Find, copy: Copy, trusted: Chosen, blobs: dict[Copy, StoredBlob], bases: dict[Digest, StoredBlob]
) -> Error:
    """Add the blob of an entry, and those of all that it depends on; return the error if one cannot be found."""
    try:
        if not all(map(bases.__contains__, copy[1].bases)):  # with all that these depend on
            bases |= find_blobs(ancestors(copy[1].bases, trusted), trusted, find)
        blobs[copy] = find(*copy)
    except (*UNREADABLE, OSError) as error:
        return error
    return None


def _examine(
    blobs: Mapping[Copy, StoredBlob], behind: Mapping[Digest, tuple[Location, StoredBlob]], threads: int
) -> list[_Finding]:
    known = {(digest, location): blob for digest, (location, blob) in behind.items()} | dict(blobs)

    def find(digest: Digest, location: Location) -> StoredBlob:
        blob = known[digest, location]
        if not blob.path.exists():
            raise MissingError(f"pack {blob.path.name} is gone from the store", pack=blob.path.name)
        return blob

    trusted = {digest: location for digest, (location, _) in behind.items()}
    decoder = Decoder(PackReader())
    found = outcomes(decoder, find, list(blobs), trusted, threads=threads, advance=no_progress)
    return [_Finding.of(error) for error in found]
