"""How jobs get the tensors that they read, and how the process that asked for them gets what they wrote."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from git_theta_ext.records import dataclass
from git_theta_ext.store.job_store import JobStore
from git_theta_ext.store.work_area import Delivery, deliver

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.deltas.decode import Blobs
    from git_theta_ext.store.store import Store
    from git_theta_ext.store.work_area import WorkArea


class JobInputs(Protocol):
    """What a job reads, and where it writes. It can be pickled."""

    def opened(self, threads: int) -> AbstractContextManager[JobStore]:
        """Give a store that has the tensors, for the length of a block.

        Args:
            threads: Number of threads that decode and hash.

        Raises:
            ThetaError: The tensors cannot be fetched.
        """

    def deliver(self, store: JobStore, facts: list[Any]) -> None:
        """Make the packs that a job has written durable, where the process that asked for them finds them.

        Args:
            store: The store of the job, opened.
            facts: As in ``Delivery``.

        Raises:
            ThetaError: They cannot be written.
        """


class Exchange(Protocol):
    """Gives jobs what they read, and takes what they wrote."""

    def provide(self, digests: Iterable[Digest]) -> set[Digest]:
        """Make jobs able to read some tensors, and return the digests of those that they cannot read."""

    def readable(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of some digests that jobs can read without ``provide``, unless nothing has them."""

    def inputs(self, digests: Iterable[Digest]) -> JobInputs:
        """Return the inputs of a job that reads some tensors.

        Raises:
            MissingError: Jobs cannot read one of them.
            CorruptError: A pack with one of them is damaged.
        """

    def left(self) -> Iterator[Delivery]:
        """Yield what jobs of an interrupted run have finished."""

    def add(self, packs: Sequence[str]) -> None:
        """Take the packs of a job."""

    def doubt(self, digests: Iterable[Digest]) -> None:
        """Take note that a job has found stored tensors damaged."""


@dataclass(frozen=True)
class SharedInputs:
    """Inputs in a store that all workers share; see ``JobInputs``.

    Attributes:
        blobs: The blobs of the tensors and of their bases.
        roots: Roots of the stores that have them.
        area: The work area.
    """

    blobs: Blobs
    roots: tuple[Path, ...]
    area: Path

    @contextmanager
    def opened(self, threads: int) -> Iterator[JobStore]:
        """Give a store that reads the packs where they are; see ``JobInputs``."""
        yield JobStore(self.blobs, self.roots, self.area, threads)

    def deliver(self, store: JobStore, facts: list[Any]) -> None:
        """Leave a record of the packs in the work area; see ``JobInputs``."""
        deliver(self.area, Delivery(tuple(store.packs), facts))


class SharedStore:
    """An exchange by a store that all workers share; see ``Exchange``.

    Args:
        store: Holds the tensors, and gets the packs.
        area: Where the jobs leave their packs.
        loose: Whether recoding may still make these packs smaller.
    """

    def __init__(self, store: Store, area: WorkArea, *, loose: bool = True) -> None:
        self._store = store
        self._area = area
        self._loose = loose

    def provide(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return the digests that the store lacks; see ``Exchange``."""
        return self._store.touch_and_find_missing(digests)

    def readable(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return all: jobs read what the store has, and ``inputs`` looks it up; see ``Exchange``."""
        return set(digests)

    def inputs(self, digests: Iterable[Digest]) -> SharedInputs:
        """Return the inputs of a job; see ``Exchange``."""
        return SharedInputs(self._store.blobs(digests), tuple(self._store.roots), self._area.path)

    def left(self) -> Iterator[Delivery]:
        """Yield what is in the work area, after it was added to the store; see ``Exchange``."""
        return self._area.left(loose=self._loose)

    def add(self, packs: Sequence[str]) -> None:
        """Add packs to the store; see ``Exchange``."""
        self._area.add(packs, loose=self._loose)

    def doubt(self, digests: Iterable[Digest]) -> None:
        """Note which packs may be damaged; see ``Exchange``."""
        doubted = set(digests)
        self._store.doubt(doubted, self._store.blobs(doubted))
