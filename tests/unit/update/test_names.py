"""Names in an update, and the parameters that they mean."""

from __future__ import annotations

import pytest

from git_theta_ext.errors import UsageError
from git_theta_ext.interfaces import ParameterNames

KNOWN = ["bert.layer.0.weight", "bert.layer.1.weight", "head.weight", "other.head.weight"]


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        ("head.weight", "head.weight"),
        ("layer.1.weight", "bert.layer.1.weight"),
        ("model.bert.layer.0.weight", "bert.layer.0.weight"),
    ],
)
def test_exact_name_or_an_ending_is_found(name, parameter):
    assert ParameterNames(KNOWN).get(name) == parameter


def test_name_that_may_mean_two_parameters_is_refused():
    with pytest.raises(UsageError, match=r"'weight' may mean"):
        ParameterNames(KNOWN).get("weight")


def test_ending_inside_a_component_is_none():
    assert ParameterNames(["attention.weight"]).find("tion.weight") is None


def test_unknown_name_is_an_error_that_names_it_and_its_neighbour():
    with pytest.raises(UsageError, match=r"bert\.layer\.7\.weight") as raised:
        ParameterNames(KNOWN).get("bert.layer.7.weight")
    assert "bert.layer" in raised.value.hint
