import pytest

from git_theta_ext.model.tensor import TensorSpec
from git_theta_ext.operations.maintenance.prune import plan_prune, reduced
from git_theta_ext.store.packs.format import Entry, PackHeader

SPEC = TensorSpec.of("U8", (4,))


def pack(*entries):
    """Make a header of entries like ``a`` or ``b<a``, a tensor that leans on another."""
    made = []
    for text in entries:
        name, *bases = text.split("<")
        made.append(Entry(name, SPEC, "delta" if bases else "dense", (4,), 0, tuple(bases)))
    return PackHeader(tuple(made), 20)


def planned(packs, needed="", safe="abcdef"):
    plan = plan_prune({name: pack(*content.split()) for name, content in packs.items()}, set(needed), set(safe))
    return list(plan.drop), "".join(sorted(plan.needed)), "".join(sorted(plan.unverified))


def test_what_is_safe_and_not_needed_goes():
    assert planned({"1": "a", "2": "b c"}) == (["1", "2"], "", "")


def test_a_pack_with_one_needed_tensor_stays():
    assert planned({"1": "a", "2": "b c"}, needed="c") == (["1"], "2", "")


def test_a_pack_with_one_tensor_that_the_remote_lacks_stays():
    assert planned({"1": "a", "2": "b c"}, safe="ab") == (["1"], "", "2")


@pytest.mark.parametrize(("needed", "safe"), [("c", "abc"), ("", "ab")])
def test_what_a_kept_pack_leans_on_stays_through_all_steps(needed, safe):
    drop, kept, unverified = planned({"1": "a", "2": "b<a", "3": "c<b", "4": "d"}, needed, safe + "d")
    assert drop == ["4"]
    assert set(kept + unverified) == {"1", "2", "3"}


def test_what_another_tensor_of_a_kept_pack_leans_on_stays():
    assert planned({"1": "a", "2": "b<a c"}, needed="c") == ([], "12", "")


def test_every_copy_of_a_base_stays():
    assert planned({"1": "a", "2": "a d", "3": "b<a"}, needed="b") == ([], "123", "")


def test_dependants_go_before_their_bases():
    assert planned({"1": "a", "2": "b<a", "3": "c<b"})[0] == ["3", "2", "1"]
    assert planned({"3": "a", "2": "b<a", "1": "c<b"})[0] == ["1", "2", "3"]


def test_packs_that_lean_on_each_other_go_all_the_same():
    assert planned({"1": "a b<c", "2": "c d<a", "3": "e<b"})[0] == ["3", "1", "2"]


LARGE = TensorSpec.of("U8", (1 << 16,))


def parts(packs, needed="", safe="abcdef"):
    headers = {}
    for name, content in packs.items():
        entries = [Entry(e.digest, LARGE, e.encoding, (1 << 16,), 0, e.bases) for e in pack(*content.split()).entries]
        headers[name] = PackHeader(tuple(entries), 20)
    found = reduced(headers, set(needed), set(safe))
    return {name: "".join(entry.digest for entry in part.entries) for name, part in found.items()}


def test_packs_are_reduced_to_what_is_needed_or_not_safe_and_its_bases():
    assert parts({"1": "a b c"}, needed="b") == {"1": "b"}
    assert parts({"1": "a b c"}, safe="ab") == {"1": "c"}
    assert parts({"1": "a b", "2": "c<a d"}, needed="c") == {"1": "a", "2": "c"}


def test_packs_that_are_needed_whole_or_not_at_all_are_not_copied():
    assert parts({"1": "a b", "2": "c d"}, needed="ab") == {}
    assert parts({"1": "a b c d e f g h i"}, needed="bcdefghi", safe="a") == {}
