from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.model.tensor import Digest
from git_theta_ext.store.deltas.chains import MAX_CHAIN, ancestors, depths, shallowest, smallest
from git_theta_ext.store.locations import Location

NAMES = [Digest(f"{number:064x}") for number in range(8)]
"""Those of 6 and 7 nobody holds."""

locations = st.builds(
    Location,
    st.just("store"),
    st.sampled_from(["p", "q", "r"]),
    st.just(0),
    st.integers(0, 20),
    st.lists(st.sampled_from(NAMES), max_size=3, unique=True).map(tuple),
)
graphs = st.dictionaries(st.sampled_from(NAMES[:6]), st.lists(locations, min_size=1, max_size=4).map(tuple))
long_chains = st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=MAX_CHAIN, max_size=3 * MAX_CHAIN)


def decodable(graph):
    """Return what can be decoded at all, however many steps that takes."""
    found = set()
    while fresh := {
        name
        for name, held in graph.items()
        if name not in found and any(found.issuperset(location.bases) for location in held)
    }:
        found |= fresh
    return found


def check(graph, chosen):
    for name, location in chosen.items():
        assert location in graph[name]
        assert set(location.bases) <= set(chosen)
        assert name not in ancestors(location.bases, chosen)
    assert max(depths(chosen).values(), default=0) <= MAX_CHAIN


@given(graphs)
def test_what_is_chosen_is_complete_and_free_of_circles(graph):
    check(graph, shallowest(graph))
    check(graph, smallest(graph))


@given(graphs)
def test_everything_that_can_be_decoded_is_chosen(graph):
    assert set(shallowest(graph)) == set(smallest(graph)) == decodable(graph)


@given(graphs)
def test_the_smallest_way_takes_no_more_bytes_and_the_shallowest_no_more_steps(graph):
    shallow, small = shallowest(graph), smallest(graph)
    steps, more = depths(shallow), depths(small)
    assert sum(held.stored for held in small.values()) <= sum(held.stored for held in shallow.values())
    assert all(steps[name] <= more[name] for name in shallow)


@given(long_chains)
def test_chains_that_grow_too_long_are_read_where_links_are_held_whole(links):
    graph = {}
    for number, (stored, whole) in enumerate(links):
        name = Digest(f"{number:064x}")
        before = (Digest(f"{number - 1:064x}"),) if number else ()
        graph[name] = (Location("store", "p", 0, stored, before), *([Location("store", "q", 0, 20)] if whole else []))
    shallow, small = shallowest(graph), smallest(graph)
    assert set(shallow) == set(small)
    check(graph, shallow)
    check(graph, small)


@given(graphs, graphs)
def test_more_packs_never_make_less_readable(one, other):
    both = {name: (*one.get(name, ()), *other.get(name, ())) for name in {*one, *other}}
    assert set(shallowest(one)) <= set(shallowest(both))
    assert set(smallest(one)) <= set(smallest(both))
