"""Parameters of adapters that a configuration gives different meanings are never mixed."""

import json

import pytest

from git_theta_ext.merging.planning.adapter_meaning import with_one_meaning
from git_theta_ext.merging.planning.plan import plan
from git_theta_ext.merging.rules.rules import Rules

CONFIG = {"peft_type": "FOURIERFT", "random_loc_seed": 1, "base_model_name_or_path": "a/m", "target_modules": ["q"]}


def decided(bench, before, *sides):
    """``both`` is changed by both sides, ``ours`` and ``theirs`` by one."""
    versions = [
        {"both": [0.0], "ours": [0.0], "theirs": [0.0]},
        {"both": [1.0], "ours": [1.0], "theirs": [0.0]},
        {"both": [2.0], "ours": [0.0], "theirs": [1.0]},
    ]
    base, *others = (bench.manifest(version) for version in versions)
    configs = [json.dumps({**CONFIG, **changes}).encode() for changes in (before, *sides)]
    planned = with_one_meaning(plan(base, others, Rules.only()), configs[0], configs[1:])
    return {decision.name: decision for decision in planned.decisions}


def conflicts(found):
    return {name for name, decision in found.items() if decision.action == "conflict"}


@pytest.mark.parametrize(
    "changes", [{}, {"target_modules": ["k"]}, {"dropout": 0.5}, {"base_model_name_or_path": "/b/m"}, {"init_x": True}]
)
def test_settings_that_change_no_meaning_do_not_matter(bench, changes):
    assert conflicts(decided(bench, {}, {}, changes)) == set()


@pytest.mark.parametrize("changes", [{"random_loc_seed": 2}, {"base_model_name_or_path": "n"}, {"init_x": "bat"}])
def test_what_another_side_trained_does_not_fit_the_merged_configuration(bench, changes):
    found = decided(bench, {}, {}, changes)
    assert conflicts(found) == {"both", "ours"}
    assert f"adapter_config.json of the sides: {next(iter(changes))} differ" in found["both"].reason.text


def test_loras_are_merged_by_their_scales(bench):
    assert (
        conflicts(decided(bench, {"peft_type": "LORA"}, {"peft_type": "LORA"}, {"peft_type": "LORA", "r": 3})) == set()
    )
