import numpy as np
import pytest
from helpers import EMBEDDING, MLP, MODEL, model, safetensors
from helpers import values as drawn
from safetensors.torch import load

from git_theta_ext.checkpoint.clean import clean
from git_theta_ext.errors import MergeError, UsageError
from git_theta_ext.merging.apply import apply
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules, choice
from git_theta_ext.model.layout import Layout
from git_theta_ext.model.tensor import skeleton_spec
from git_theta_ext.operations.merge.conflict_values import methods_for
from git_theta_ext.operations.merge.resolve import resolve
from git_theta_ext.store.store import Store


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "theta")
    yield made
    made.close()


def made(store, **values):
    content = {
        name: ("F32" if array.dtype == np.float32 else "I64", array.shape, array.tobytes())
        for name, array in ((name, np.asarray(value)) for name, value in values.items())
    }
    return clean(memoryview(safetensors(content)), "m.safetensors", store).manifest


def floats(*values):
    return np.array(values, np.float32)


def values(store, manifest, name):
    parameter = manifest.parameters[name]
    kind = np.float32 if parameter.spec.dtype.name == "F32" else np.int64
    return np.frombuffer(store.read(parameter.digest, parameter.spec), kind).tolist()


def fits(store, manifest):
    skeleton = manifest.skeleton
    layout = Layout.from_skeleton(store.read(skeleton.digest, skeleton_spec(skeleton.nbytes)))
    return layout.parameters == {name: p.spec for name, p in manifest.parameters.items()}


@pytest.fixture
def conflicted(store):
    base = made(store, a=floats(0, 0), b=floats(0), n=np.array([1]), w=floats(1))
    ours = made(store, a=floats(1, 2), b=floats(2), n=np.array([2]), w=floats(2))
    theirs = made(store, a=floats(3, 4), b=floats(4), n=np.array([3]))
    return apply(plan(base, (ours, theirs), Rules.only("conflict")), store).manifest


@pytest.mark.parametrize(("method", "expected"), [("ours", [1, 2]), ("theirs", [3, 4]), ("base", [0, 0])])
def test_a_side_settles_everything(store, conflicted, method, expected):
    settled = resolve(conflicted, store, choice(method))
    assert not settled.conflicted
    assert values(store, settled, "a") == expected
    assert ("w" in settled.parameters) == (method != "theirs")
    assert fits(store, settled)


def test_patterns_choose_and_the_rest_stays(store, conflicted):
    settled = resolve(conflicted, store, choice("theirs"), ["[ab]"])
    assert [conflict.name for conflict in settled.conflicts] == ["n", "w"]
    assert values(store, settled, "b") == [4]
    assert values(store, settled, "n") == [2]


@pytest.mark.parametrize("pattern", ["x.weight", "*.weight", "x.weight[0:1]"])
def test_a_tensor_in_pieces_is_chosen_by_its_name(store, pattern):
    def pieces(first, second):
        return made(store, **{"x.weight[0:1]": floats(first), "x.weight[1:2]": floats(second), "x.bias": floats(first)})

    conflicted = apply(plan(pieces(0, 0), (pieces(1, 2), pieces(3, 4)), Rules.only("conflict")), store).manifest
    settled = resolve(conflicted, store, choice("theirs"), [pattern])
    left = ["x.bias", "x.weight[1:2]"] if pattern.endswith("]") else ["x.bias"]
    assert [conflict.name for conflict in settled.conflicts] == left


def test_what_belongs_together_is_settled_together(store):
    def quantised(weight, scale, zero):
        return made(store, **{"l.weight_scale": floats(scale), "l.input_scale": floats(zero), "l.bias": floats(weight)})

    sides = quantised(1, 0, 2), quantised(2, 2, 0)
    conflicted = apply(plan(quantised(0, 0, 0), sides, Rules.only("conflict")), store).manifest
    assert [conflict.name for conflict in conflicted.conflicts] == ["l.bias", "l.input_scale", "l.weight_scale"]
    settled = resolve(conflicted, store, choice("ours"), ["l.input_scale"])
    assert [conflict.name for conflict in settled.conflicts] == ["l.bias"]
    assert (values(store, settled, "l.input_scale"), values(store, settled, "l.weight_scale")) == ([2], [0])
    with pytest.raises(MergeError, match="part of a quantised weight"):
        resolve(conflicted, store, choice("average"), ["l.input_scale"])


METHODS = {
    "values": ([0, 0], [1, 2], [3, 4], ["average"]),
    "appended rows": ([0, 0], [1, 2, 3], [3, 4], ["grow"]),
    "other shapes": ([0, 0], [1, 2, 3], [3, 4, 5, 6], []),
}


@pytest.mark.parametrize(("base", "ours", "theirs", "methods"), METHODS.values(), ids=METHODS)
def test_methods_that_settle_a_conflict_are_known(store, base, ours, theirs, methods):
    versions = [made(store, a=floats(*version)) for version in (base, ours, theirs)]
    found = apply(plan(versions[0], versions[1:], Rules.only("conflict")), store).manifest
    assert methods_for(found) == methods
    for method in methods:
        assert not resolve(found, store, choice(method)).conflicted
    if methods != ["average"]:
        with pytest.raises(MergeError) as caught:
            resolve(found, store, choice("average"))
        assert f"--method {', '.join([*methods, 'ours', 'theirs'])} or base" in str(caught.value.hint)


def test_no_method_settles_what_is_never_merged_by_arithmetic(store):
    versions = [made(store, **{"l.weight_scale": floats(n), "l.input_scale": floats(n)}) for n in range(3)]
    found = apply(plan(versions[0], versions[1:], Rules.only()), store).manifest
    assert len(found.conflicts) == 2
    assert methods_for(found) == []


def test_a_method_settles_what_it_can(store, conflicted):
    settled = resolve(conflicted, store, choice("average"))
    assert [conflict.name for conflict in settled.conflicts] == ["n", "w"]
    assert values(store, settled, "a") == [2, 3]


def test_conflicts_can_be_settled_one_after_the_other(store, conflicted):
    settled = resolve(conflicted, store, choice("average"), ["a", "b"])
    settled = resolve(settled, store, choice("theirs"), ["w"])
    settled = resolve(settled, store, choice("ours"), ["n"])
    assert not settled.conflicted
    assert sorted(settled.parameters) == ["a", "b", "n"]
    assert fits(store, settled)


def test_a_method_that_cannot_settle_what_was_asked_for_says_why(store, conflicted):
    with pytest.raises(MergeError, match=r"'n'.*I64"):
        resolve(conflicted, store, choice("average"), ["n"])


def test_a_method_that_settles_nothing_says_so(store, conflicted):
    rest = resolve(conflicted, store, choice("average"))
    with pytest.raises(MergeError, match="'n'"):
        resolve(rest, store, choice("average"))


def test_a_pattern_that_matches_no_conflict_is_refused(store, conflicted):
    with pytest.raises(UsageError, match="nothing-like-it"):
        resolve(conflicted, store, choice("ours"), ["nothing-like-it"])


def test_parameters_added_on_both_sides_can_be_averaged_on_request(store):
    base = made(store, k=floats(1))
    ours, theirs = made(store, k=floats(1), x=floats(2)), made(store, k=floats(1), x=floats(4))
    manifest = apply(plan(base, (ours, theirs), Rules.only("average")), store).manifest
    assert [conflict.name for conflict in manifest.conflicts] == ["x"]
    assert values(store, resolve(manifest, store, choice("average")), "x") == [3]


class TestWholeFiles:
    @pytest.fixture
    def sides(self, store):
        return [clean(memoryview(text), "m.bin", store).manifest for text in (b"one" * 9, b"two" * 8, b"three" * 7)]

    def test_a_side_settles_the_whole_file(self, store, sides):
        manifest = apply(plan(sides[0], sides[1:], Rules.only()), store).manifest
        assert resolve(manifest, store, choice("theirs")) == sides[2]
        assert resolve(manifest, store, choice("ours")) == sides[1]
        assert resolve(manifest, store, choice("base")) == sides[0]

    def test_parts_of_it_cannot_be_chosen(self, store, sides):
        manifest = apply(plan(sides[0], sides[1:], Rules.only()), store).manifest
        with pytest.raises(MergeError, match="as a whole"):
            resolve(manifest, store, choice("theirs"), ["chunk/*"])
        with pytest.raises(MergeError, match="as a whole"):
            resolve(manifest, store, choice("average"))

    def test_of_another_format_only_ours_can_be_kept(self, store, sides):
        theirs = made(store, w=floats(1))
        manifest = apply(plan(sides[0], (sides[1], theirs), Rules.only()), store).manifest
        assert resolve(manifest, store, choice("ours")) == sides[1]
        with pytest.raises(MergeError) as caught:
            resolve(manifest, store, choice("theirs"))
        assert "git checkout --theirs" in caught.value.hint


class TestStages:
    """Merges that ran no driver, or one that could not merge at all, leave three versions in the index."""

    @pytest.fixture
    def stopped(self, repo):
        repo.write(model(1))
        repo.commit("base")
        repo.switch("-b", "side")
        repo.write(model(1, {EMBEDDING: 3, MLP[0]: 3}))
        repo.commit("theirs")
        repo.switch("main")
        repo.write(model(1, {EMBEDDING: 2}))
        repo.commit("ours")
        assert repo.run("-c", "theta.merge.method=no-such", "merge", "side", check=False).returncode == 1
        return repo

    def test_what_both_changed_is_listed(self, stopped):
        done = stopped.run("theta", "resolve", MODEL, check=False)
        assert EMBEDDING in done.stdout
        assert MLP[0] not in done.stdout

    def test_a_side_settles_it_and_the_merge_can_be_committed(self, stopped):
        stopped.git("theta", "resolve", MODEL, "--method", "theirs")
        stopped.git("commit", "--no-edit")
        assert stopped.problems(MODEL, model(1, {EMBEDDING: 3, MLP[0]: 3})) == []

    @pytest.mark.parametrize("scope", ["model", "tensor"])
    def test_a_method_that_trims_settles_it(self, stopped, scope):
        options = ["--option", f"scope={scope}", "--option", "density=1"]
        stopped.git("theta", "resolve", MODEL, "--method", "ties", *options)
        base, ours, theirs = (np.frombuffer(drawn(EMBEDDING, seed), "<f4") for seed in (1, 2, 3))
        moved = np.stack([ours - base, theirs - base])
        elected = np.sign(moved.sum(0))
        agree = np.where(np.sign(moved) == elected, moved, 0)
        expected = base + agree.sum(0) / np.maximum((agree != 0).sum(0), 1)
        found = load(stopped.read())[EMBEDDING].reshape(-1).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
