"""Which elements several branches changed, and the mean over the branches that changed each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_theta_ext.interfaces import Option, array_namespace, astype

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.interfaces import Array

EPSILON = Option(1e-5, 0.0, 1.0)
"""Changes of at most this magnitude are none."""


def changed(vectors: Sequence[Array], epsilon: float) -> list[Array]:
    """Return for each task vector 1 in the elements that it changes and 0 in the others, in its element type."""
    return [astype(abs(vector) > epsilon, vector.dtype) for vector in vectors]


def mean_of_changes(vectors: Sequence[Array], masks: Sequence[Array]) -> tuple[Array, Array]:
    """Return the mean of each element over the branches that change it, and their number."""
    xp = array_namespace(vectors[0])
    change, users = xp.zeros_like(vectors[0]), xp.zeros_like(vectors[0])
    for vector, mask in zip(vectors, masks, strict=True):
        change += vector * mask
        users += mask
    change /= xp.clip(users, 1.0, None)
    return change, users
