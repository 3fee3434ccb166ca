"""Read tensors that are next to each other in a file and in a bundle as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_theta_ext.model.bundle import Bundle
    from git_theta_ext.model.tensor import Digest, TensorSpec


class Place(NamedTuple):
    """Where a tensor, or a bundle of tensors, is in a file.

    Attributes:
        offset: Offset of its first byte.
        digest: Its digest.
        spec: Its element type and shape.
    """

    offset: int
    digest: Digest
    spec: TensorSpec


def in_runs(places: Sequence[Place], bundles: Iterable[Bundle]) -> list[Place]:
    """Return the places of tensors, with one for all tensors of a bundle if these follow each other without a gap.

    Args:
        places: The places of the tensors, in the order of the file.
        bundles: The bundles that may be read.
    """
    held = {members[0]: (bundle, members) for bundle in bundles for members in [bundle.digests()]}
    if not held:
        return [*places]
    digests = [place.digest for place in places]
    runs: list[Place] = []
    at = 0
    while at < len(places):
        count, run = 1, places[at]
        if (first := held.get(run.digest)) is not None:
            bundle, members = first
            if digests[at : at + len(members)] == members and _fits(bundle, places[at : at + len(members)]):
                count, run = len(members), Place(run.offset, bundle.digest, bundle.spec)
        runs.append(run)
        at += count
    return runs


def _fits(bundle: Bundle, places: Sequence[Place]) -> bool:
    """Return whether the tensors of a bundle have its specs, and no bytes between them."""
    begin = places[0].offset
    return [place.spec for place in places] == [*bundle.specs()] and [
        place.offset - begin for place in places
    ] == bundle.starts()
