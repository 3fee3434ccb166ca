"""The graph of deltas and their bases."""

import pytest

from git_theta_ext.store.deltas.graph import DeltaGraph
from git_theta_ext.store.locations import Location


@pytest.mark.parametrize(
    ("digest", "parent", "cycle"),
    [("a", "a", True), ("a", "b", True), ("a", "c", True), ("c", "a", False), ("d", "c", False), ("a", "gone", False)],
)
def test_a_tensor_cannot_become_a_delta_of_what_depends_on_it(digest, parent, cycle):
    bases = {"a": (), "b": ("a",), "c": ("b",), "d": ()}
    graph = DeltaGraph({name: Location("", "pack", at, 1, bases[name]) for at, name in enumerate(bases)})
    assert graph.would_cycle(digest, parent) is cycle
