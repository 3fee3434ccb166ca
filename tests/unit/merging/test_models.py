import json

from git_theta_ext.merging.model_versions import ModelVersions
from git_theta_ext.merging.models import apply_model
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.model.model_version import ModelVersion
from git_theta_ext.model.shard_index import ShardIndex

A, B, C = [1.0, 2.0], [3.0, 4.0], [5.0, 8.0]
ONE, TWO = {"1": "ab", "2": "cd"}, {"1": "abc", "2": "d"}
THREE = {"x": "a", "y": "bc", "z": "d"}


def version(bench, values, files, index=None):
    """Return a version of a model whose files hold parameters by their first letters."""
    shards = {
        path: bench.manifest({name: value for name, value in values.items() if name[0] in letters}, head=path.encode())
        for path, letters in files.items()
    }
    if index is None:
        return ModelVersion(shards)
    weight_map = {name: path for path, shard in shards.items() for name in shard.parameters}
    text = json.dumps({"metadata": {"total_size": 32}, "weight_map": weight_map})
    return ModelVersion(shards, index, ShardIndex.parse(text.encode()))


def merged(bench, base, *sides, rules=None):
    versions = ModelVersions("m", base, sides)
    before, after = versions.manifests()
    return apply_model(versions, plan(before, after, rules or Rules.only("average")), bench.store)


def values(bench, outcome):
    return {name: bench.values(value) for file in outcome.files.values() for name, value in file.parameters.items()}


def test_one_side_moves_parameters_and_the_other_trains(bench):
    before = dict.fromkeys("abcd", A)
    trained = {**before, "c": B, "d": C}
    base, theirs = version(bench, before, ONE, "i"), version(bench, trained, ONE, "i")
    ours = version(bench, before, THREE, "i")
    for sides in ((ours, theirs), (theirs, ours)):
        outcome = merged(bench, base, *sides)
        assert values(bench, outcome) == trained
        assert {path: "".join(file.parameters) for path, file in outcome.files.items()} == THREE
        assert [file.skeleton for file in outcome.files.values()] == [s.skeleton for s in ours.shards.values()]
        assert json.loads(next(iter(outcome.texts.values())))["weight_map"] == dict(ours.places)
        assert (outcome.conflicts, outcome.notes) == (0, ())


def test_files_of_ours_are_kept_if_both_sides_moved_parameters_and_those_that_the_rules_take(bench):
    before = dict.fromkeys("abcd", A)
    base, ours, theirs = (
        version(bench, before, ONE),
        version(bench, {**before, "c": B}, TWO),
        version(bench, before, THREE),
    )
    outcome = merged(bench, base, ours, theirs)
    assert {path: "".join(file.parameters) for path, file in outcome.files.items()} == TWO
    assert outcome.notes == ("several sides moved parameters between files, and the files of ours are kept",)
    outcome = merged(bench, base, ours, theirs, rules=Rules.only("theirs"))
    assert list(outcome.files) == ["x", "y", "z"]
    assert values(bench, outcome)["c"] == B


def test_one_file_and_shards_of_it(bench):
    before = dict.fromkeys("abcd", A)
    base, ours = (version(bench, some, {"m": "abcd"}) for some in (before, {**before, "a": B}))
    outcome = merged(bench, base, ours, version(bench, {**before, "d": C}, THREE, "i"))
    assert values(bench, outcome) == {**before, "a": B, "d": C}
    assert list(outcome.files) == ["x", "y", "z"]


def test_conflict_on_a_moved_parameter_has_all_candidates(bench):
    before = dict.fromkeys("abcd", A)
    base, ours, theirs = (version(bench, {**before, "c": c}, files) for c, files in ((A, ONE), (B, TWO), (C, ONE)))
    outcome = merged(bench, base, ours, theirs, rules=Rules.only("conflict"))
    (conflict,) = outcome.files["1"].conflicts
    assert [bench.values(value) for value in (conflict.base, *conflict.sides)] == [A, B, C]
    assert not outcome.files["2"].conflicts
    assert outcome.conflicts == 1
