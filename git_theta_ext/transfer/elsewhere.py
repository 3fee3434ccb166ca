"""Find missing tensors on remotes, for a check of a store."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import CorruptError, MissingError, RemoteError, ThetaError
from git_theta_ext.records import dataclass
from git_theta_ext.store.maintenance.fsck import check_manifests, specs_of
from git_theta_ext.transfer.remote_index import read_remote_index
from git_theta_ext.transfer.sync import fetch
from git_theta_ext.util.threads import no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from git_theta_ext.model.manifest import Manifest
    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.maintenance.fsck import Problem
    from git_theta_ext.store.store import Store
    from git_theta_ext.transfer.remote_index import OpenedRemote
    from git_theta_ext.util.reporter import Progress


@dataclass(frozen=True)
class Remotes:
    """The remotes of a repository for a check of its store.

    Attributes:
        opened: The remotes that can be opened.
        failures: Why the others could not be opened.
        count: Whether a tensor counts as present if only a remote has it, as in a clone that has not checked out every
            commit.
    """

    opened: list[OpenedRemote]
    failures: list[ThetaError]
    count: bool

    def problems(
        self, store: Store, manifests: Mapping[str, Manifest], advance: Callable[[int], None] = no_progress
    ) -> Iterator[Problem]:
        """Check manifests as ``check_manifests`` does; its problems say what a remote has."""
        held = self.held(store, manifests)
        return check_manifests(store, manifests, elsewhere=held, here=not self.count, advance=advance)

    def held(self, store: Store, manifests: Mapping[str, Manifest]) -> set[Digest]:
        """Return the missing digests that remotes have."""
        named = specs_of(manifests.values())
        missing = set(named) - store.present(named)
        available: set[Digest] = set()
        for remote in self.opened if missing else ():
            try:
                available |= read_remote_index(store, remote).held(missing)
            except ThetaError as error:  # noqa: PERF203 - a handful of remotes
                self.failures.append(error)
        return available

    def fill(self, store: Store, manifests: Mapping[str, Manifest], advance: Progress) -> None:
        """Fetch the missing tensors that remotes have."""
        with suppress(CorruptError, MissingError, RemoteError):
            fetch(store, self.opened, self.held(store, manifests), advance)
