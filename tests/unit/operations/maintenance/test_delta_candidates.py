from __future__ import annotations

from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import Digest, TensorSpec
from git_theta_ext.operations.history.versions import Version
from git_theta_ext.operations.maintenance.delta_candidates import candidates


def digest(name):
    return Digest(name.encode().hex().ljust(64, "0"))


def version(oid, path="m.pt", previous=(), shapes=None, **tensors):
    """Return a version whose parameters have the names given (``__`` for a dot) and digests called as their values."""
    shapes = shapes or {}
    parameters = {
        name.replace("__", "."): Parameter(shapes.get(name, TensorSpec.of("F32", (4, 2))), digest(value))
        for name, value in tensors.items()
    }
    return Version(
        oid, path, f"commit of {oid}", 1, Manifest("safetensors", Skeleton(digest("s"), 8), parameters), previous
    )


def groups_of(history):
    """Return what each version adds."""
    return candidates(history, {digest for version in history for digest in version.manifest.columns.digests})


def parents(*history):
    """Return what each tensor may start from, by the names of the digests."""
    return {
        readable(candidate.digest): [readable(found) for found, _ in candidate.parents]
        for group in groups_of(history)
        for candidate in group
    }


def readable(name):
    return bytes.fromhex(name.rstrip("0") + "0" * (len(name.rstrip("0")) % 2)).decode()


def test_the_version_that_was_replaced_comes_first_and_earlier_ones_after_it():
    found = parents(
        version("1", w="a"),
        version("2", previous=("1",), w="b"),
        version("3", previous=("2",), w="c"),
        version("4", previous=("1",), w="d"),
    )
    assert found == {"a": [], "b": ["a"], "c": ["b", "a"], "d": ["a", "c", "b"]}


def test_what_a_merge_replaced_comes_before_anything_else():
    found = parents(
        version("1", w="a"),
        version("2", previous=("1",), w="b"),
        version("3", previous=("1",), w="c"),
        version("4", previous=("2", "3"), w="d"),
    )
    assert found["d"] == ["b", "c", "a"]


def test_what_stayed_as_it_was_is_no_candidate():
    history = [version("1", w="a", v="x"), version("2", previous=("1",), w="b", v="x"), version("3", w="b")]
    added = [{readable(candidate.digest) for candidate in group} for group in groups_of(history)]
    assert added == [{"a", "x"}, {"b"}]


def test_only_what_is_wanted_is_yielded_and_may_start_from_what_is_not():
    history = [version("1", w="a", v="x"), version("2", previous=("1",), w="b", v="y")]
    ((only,),) = candidates(history, {digest("b")})
    assert readable(only.digest) == "b"
    assert [readable(found) for found, _ in only.parents] == ["a"]


def test_a_value_that_comes_back_starts_from_nothing_new():
    found = parents(version("1", w="a"), version("2", previous=("1",), w="b"), version("3", previous=("2",), w="a"))
    assert found == {"a": [], "b": ["a"]}


def test_a_renamed_file_goes_on_from_the_parameters_of_that_name():
    assert parents(version("1", w="a"), version("2", path="new.pt", w="b"))["b"] == ["a"]


def test_shards_go_on_from_the_file_that_they_were():
    found = parents(version("1", w="a", v="x"), version("2", path="one.pt", w="b"), version("3", path="two.pt", v="y"))
    assert found == {"a": [], "x": [], "b": ["a"], "y": ["x"]}


def test_wrapped_names_go_on_from_those_inside():
    old = version("1", layers__0__w="a", layers__1__w="b", head__weight="h")
    new = version("2", previous=("1",), model__layers__0__w="c", model__layers__1__w="d", model__head__weight="i")
    found = parents(old, new)
    assert (found["c"], found["d"], found["i"]) == (["a"], ["b"], ["h"])


def test_what_grew_while_it_got_another_name_in_another_file_goes_on_from_what_it_was():
    grown = TensorSpec.of("F32", (6, 2))
    first = version("1", path="one.pt", emb__tokens__weight="a", layers__0__w="x")
    second = version("2", path="two.pt", head__weight="b")
    new = version(
        "3", path="new.pt", shapes={"model__emb__tokens__weight": grown}, model__emb__tokens__weight="c", other__w="d"
    )
    assert parents(first, second, new)["c"] == ["a"]
    both = version("2", path="two.pt", too__tokens__weight="b")
    assert parents(first, both, new)["c"] == []


def test_names_that_share_nothing_go_on_by_their_place_among_equal_shapes():
    square = TensorSpec.of("F32", (4, 4))
    old = version("1", shapes={"c": square}, a="1", b="2", c="3")
    new = version("2", previous=("1",), shapes={"z": square}, x="4", y="5", z="6")
    found = parents(old, new)
    assert (found["4"], found["5"], found["6"]) == (["1"], ["2"], ["3"])


def test_names_that_share_nothing_and_are_not_as_many_start_from_nothing():
    assert parents(version("1", a="1", b="2"), version("2", previous=("1",), x="4"))["4"] == []


def test_parents_have_the_same_type_and_rows_of_the_same_length():
    shapes = [("F32", (4, 2)), ("F32", (6, 2)), ("F16", (6, 2)), ("F32", (2, 6)), ("F32", (5, 3)), ("F32", (12,))]
    history = [
        version(str(number), shapes={"w": TensorSpec.of(*shape)}, w="abcdef"[number])
        for number, shape in enumerate(shapes)
    ]
    assert parents(*history) == {"a": [], "b": ["a"], "c": [], "d": ["b"], "e": [], "f": ["d", "b"]}


def test_no_more_than_some_parents_are_looked_at():
    history = [version(str(number), w=f"v{number:04}") for number in range(100)]
    found = parents(*history)
    assert found["v0099"] == [f"v{number:04}" for number in range(98, 90, -1)]
    assert max(map(len, found.values())) == 8


def test_nothing_starts_from_itself_and_no_parent_comes_twice():
    found = parents(
        version("1", w="a", v="a"),
        version("2", previous=("1",), w="b", v="a"),
        version("3", previous=("2",), w="c", v="b"),
    )
    assert found == {"a": [], "b": ["a"], "c": ["b", "a"]}
