import itertools

from git_theta_ext.model.tensor import Digest
from git_theta_ext.store.deltas.chains import MAX_CHAIN, ancestors, closure, depths, shallowest, smallest
from git_theta_ext.store.locations import Location


def digest(letter):
    return Digest(letter * 64)


def location(stored, *bases, pack="p"):
    return Location("store", f"{pack}{stored}", 0, stored, tuple(map(digest, bases)))


def graph(**held):
    return {digest(letter): tuple(locations) for letter, locations in held.items()}


def letters(chosen):
    return {name[0]: (held.stored, "".join(base[0] for base in held.bases)) for name, held in chosen.items()}


def chain(length):
    names = [Digest(f"{number:064x}") for number in range(length)]
    held = {names[0]: (Location("store", "p", 0, 9),)}
    return held | {new: (Location("store", "p", 0, 1, (old,)),) for old, new in itertools.pairwise(names)}


def test_what_is_held_whole_is_read_rather_than_a_smaller_difference():
    found = graph(a=[location(9)], b=[location(1, "a"), location(9)])
    assert letters(shallowest(found)) == {"a": (9, ""), "b": (9, "")}
    assert letters(smallest(found)) == {"a": (9, ""), "b": (1, "a")}


def test_of_several_that_take_as_many_steps_the_smallest_is_read():
    assert letters(shallowest(graph(a=[location(9), location(7), location(8)]))) == {"a": (7, "")}


def test_what_leans_on_something_missing_is_left_out_with_all_that_leans_on_it():
    found = graph(a=[location(1, "x")], b=[location(1, "a")], c=[location(1)])
    assert letters(shallowest(found)) == letters(smallest(found)) == {"c": (1, "")}


def test_a_circle_that_no_other_holder_breaks_is_left_out():
    found = graph(a=[location(1, "b")], b=[location(1, "a")])
    assert shallowest(found) == smallest(found) == {}


def test_a_circle_is_broken_where_one_of_its_tensors_is_held_otherwise():
    found = graph(a=[location(1, "b"), location(9)], b=[location(1, "a")])
    assert letters(shallowest(found)) == letters(smallest(found)) == {"a": (9, ""), "b": (1, "a")}


def test_of_two_that_could_each_lean_on_the_other_one_stays_whole():
    found = graph(a=[location(1, "b"), location(9)], b=[location(1, "a"), location(9)])
    assert sorted(letters(smallest(found)).values()) in ([(1, "a"), (9, "")], [(1, "b"), (9, "")])


def test_a_tensor_cannot_lean_on_itself():
    assert letters(smallest(graph(a=[location(1, "a"), location(9)]))) == {"a": (9, "")}


def test_chains_are_followed_so_far_and_no_further():
    assert len(shallowest(chain(MAX_CHAIN + 1))) == MAX_CHAIN + 1
    assert len(shallowest(chain(MAX_CHAIN + 2))) == MAX_CHAIN + 1


def with_parts(length, every=2):
    """Return a chain of deltas between which are parts, or gathered bundles."""
    links = chain(length)
    return {
        name: (held[0]._replace(stored=0),) if number % every else held
        for number, (name, held) in enumerate(links.items())
    }


def test_what_has_no_bytes_of_its_own_is_no_step():
    links = with_parts(2 * MAX_CHAIN + 2)
    for chosen in (shallowest(links), smallest(links), smallest(links, MAX_CHAIN)):
        assert chosen.keys() == links.keys()
        assert list(depths(chosen).values()) == [number // 2 for number in range(len(links))]
    assert len(shallowest(with_parts(2 * MAX_CHAIN + 5))) == 2 * MAX_CHAIN + 2


def test_a_chain_of_what_has_no_bytes_is_not_without_end():
    assert len(shallowest(with_parts(99, every=99))) == MAX_CHAIN + 2


def test_chains_of_parts_begin_anew_at_the_same_depth():
    links = with_parts(12)
    whole = {name: (*held, Location("store", "p", 0, 9)) for name, held in links.items()}
    assert max(depths(smallest(whole, 3)).values()) == 3
    assert smallest(whole, 5) == {name: held[0] for name, held in links.items()}


def test_the_smallest_way_begins_anew_where_it_becomes_too_long():
    links = chain(MAX_CHAIN + 4)
    whole = {name: (*held, Location("store", "p", 0, 9)) for name, held in links.items()}
    chosen = smallest(whole)
    assert max(depths(chosen).values()) == MAX_CHAIN
    assert sum(not location.bases for location in chosen.values()) == 2


def test_depth_counts_the_longest_way_down():
    chosen = shallowest(graph(a=[location(9)], b=[location(1, "a")], c=[location(1, "a", "b")]))
    assert {name[0]: depth for name, depth in depths(chosen).items()} == {"a": 0, "b": 1, "c": 2}


def test_ancestors_are_a_tensor_and_all_that_it_leans_on():
    chosen = shallowest(graph(a=[location(9)], b=[location(1, "a")], c=[location(1, "b")], d=[location(9)]))
    assert ancestors([digest("c")], chosen) == {digest("a"), digest("b"), digest("c")}
    assert ancestors([digest("x")], chosen) == {digest("x")}


def test_everything_that_any_holder_leans_on_is_looked_up_once():
    found = graph(a=[location(9)], b=[location(1, "a"), location(2, "x")], c=[location(1, "b", "a")], d=[location(9)])
    asked = []

    def look_up(digests):
        asked.extend(digests)
        return {name: found[name] for name in digests if name in found}

    assert closure([digest("c")], look_up) == {name: found[name] for name in map(digest, "abc")}
    assert sorted(name[0] for name in asked) == ["a", "b", "c", "x"]
