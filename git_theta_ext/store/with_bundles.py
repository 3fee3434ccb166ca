"""Find tensors wherever they are: as entries of packs, or in bundles, which are entries of packs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.store.deltas.chains import shallowest
from git_theta_ext.store.locations import Verdict, sound, with_parts
from git_theta_ext.store.parts import apart, chosen_bundles, stored_as
from git_theta_ext.store.verification.verifier import Verifier

if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from collections.abc import Set as AbstractSet

    from git_theta_ext.model.tensor import Digest
    from git_theta_ext.store.locations import Location, Locations


class StoreWithBundles(Verifier):
    """A store in which many small tensors may be one entry; see ``Verifier`` for the arguments.

    A tensor in a bundle has a location without a pack, whose base is the bundle. Entries of packs depend on entries
    only, so what works on these need not know more of bundles than how to compare them with their digests.
    """

    def touch_and_find_missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """As ``Verifier.touch_and_find_missing``; tensors in verified bundles are not looked at one by one."""
        bundles = self.index.bundles_of(digests)
        chosen = chosen_bundles(bundles, lambda some: self.touch_sound(some)[1])
        return super().touch_and_find_missing(apart(bundles, chosen))

    def stored_as(
        self, digests: Iterable[Digest], first: Container[Digest] = (), without: AbstractSet[Digest] = frozenset()
    ) -> dict[Digest, Digest]:
        """Return the bundle that each of some tensors is read from, or the tensor itself if it is in none.

        Args:
            digests: Digests of the tensors.
            first: Bundles that come before all others.
            without: Bundles that do not count.
        """
        bundles = self.index.bundles_of(digests)
        chosen = chosen_bundles(bundles, lambda some: shallowest(sound(self.locations(some - without))), first)
        return stored_as(bundles, chosen)

    def present(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of some digests that have a location, verified or not."""
        bundles = self.index.bundles_of(digests)
        chosen = chosen_bundles(bundles, lambda some: shallowest(self.locations(some)))
        others = set(apart(bundles, chosen))
        return (bundles.keys() - others) | (others & shallowest(self.locations(others)).keys())

    def with_bundles(self, digests: Iterable[Digest], without: AbstractSet[Digest] = frozenset()) -> set[Digest]:
        """Return what some tensors are stored as; all bundles of a tensor if none of them can be read at the moment.

        Args:
            digests: Digests of the tensors.
            without: Bundles that do not count.
        """
        stored = self.stored_as(digests, without=without)
        left = self.index.parts(digest for digest, bundle in stored.items() if digest == bundle)
        return {*stored.values(), *(bundle for several in left.values() for bundle, _ in several)} - without

    def all_locations(self) -> Locations:
        """As ``Verifier.all_locations``, with tensors that entries depend on although they are only in bundles."""
        return self.with_parts_behind(super().all_locations())

    def with_parts_behind(self, locations: Locations) -> Locations:
        """Return locations, and those of tensors that they depend on and that are only in bundles.

        A store makes no such entry, but may get one from another store, in which the tensor has an entry of its own.
        """
        bases = {base for several in locations.values() for location in several for base in location.bases}
        return with_parts(locations, self.index.parts(bases - locations.keys()))

    def _look_up(self, digests: set[Digest]) -> Locations:
        locations = super()._look_up(digests)
        # A tensor that is also stored without a base is read from there.
        whole = [digest for digest, several in locations.items() if any(map(_is_whole, several))]
        return with_parts(locations, self.index.parts(digests.difference(whole)))


def _is_whole(location: Location) -> bool:
    return not location.bases and location.verdict is Verdict.SOUND
