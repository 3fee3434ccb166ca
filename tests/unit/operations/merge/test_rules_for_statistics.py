"""Statistics are merged by their mean, with the weights of the models if it can have them."""

from __future__ import annotations

import pytest

from git_theta_ext.operations.merge.rule_sources import RuleSources
from git_theta_ext.operations.merge.rules import merge_rules


@pytest.mark.parametrize("weights", ["[1, -1]", "[[1, -1], 1]"])
def test_statistics_of_a_model_that_is_subtracted_are_merged_by_their_mean(weights):
    text = f"version: 1\ndefaults: {{method: task_arithmetic, weights: {weights}}}\n".encode()
    sources = RuleSources(text, (), (), (), None, set)
    assert merge_rules(sources, ["fisher/w"]).defaults.words == "average"
    assert merge_rules(sources, ["w"]).defaults.method == "task_arithmetic"


def test_statistics_have_the_weights_of_the_models():
    sources = RuleSources(b"version: 1\ndefaults: {method: ties, weights: [3, 1]}\n", (), (), (), None, set)
    assert merge_rules(sources, ["fisher/w"]).defaults.words == "average weights=3,1"
