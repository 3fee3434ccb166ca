"""Weights that a method cannot divide by are refused wherever they are written."""

from __future__ import annotations

import numpy as np
import pytest

from git_theta_ext.api.merging import merge
from git_theta_ext.errors import MergeError
from git_theta_ext.interfaces import Piece, Trim
from git_theta_ext.merging.rules.file import parse_override, read_rules
from git_theta_ext.merging.rules.rules import Rules, choice
from git_theta_ext.merging.search.file import read_space
from git_theta_ext.registry import built_in, find_merge

WEIGHTED = [name for name in built_in("merges") if find_merge(name).contract.weighted]
SIGNED = [name for name in WEIGHTED if find_merge(name).contract.negative_weights]
UNSIGNED = sorted(set(WEIGHTED) - set(SIGNED))
ELECTIONS = {"ties": {}, "knots": {}} | {
    name: {"election": "ties"} for name in WEIGHTED if "election" in find_merge(name).contract.options
}


def words(method: str, weights: str = "1,-1") -> list[str]:
    options = [f"{name}={word}" for name, word in ELECTIONS.get(method, {}).items()]
    return [f"method={method}", *options, f"weights={weights}"]


def mapping(method: str, weights: str = "[1, -1]") -> str:
    return f"{{method: {method}, with: {ELECTIONS.get(method, {})}, weights: {weights}}}"


PLACES = {
    "defaults of a file": lambda m: read_rules(f"version: 1\ndefaults: {mapping(m)}\n".encode()),
    "rule of a file": lambda m: read_rules(f"version: 1\nrules:\n- {{match: '**', {mapping(m).lstrip('{')}\n".encode()),
    "gradient of a file": lambda m: read_rules(f"version: 1\ndefaults: {mapping(m, '[[0, 1], [1, -1]]')}\n".encode()),
    "words": lambda m: read_rules(None, [parse_override("command line", words(m))]),
    "words after a file": lambda m: read_rules(
        f"version: 1\ndefaults: {{method: {m}}}\n".encode(), [parse_override("command line", ["weights=1,-1"])]
    ),
    "grow": lambda m: choice("grow", {"method": m, **ELECTIONS.get(m, {})}, [1, -1]),
    "record": lambda m: Rules.from_dict({"method": m, "with": ELECTIONS.get(m, {}), "weights": [1, -1], "rules": []}),
    "search": lambda m: read_space(f"version: 1\nsearch: grid\ncandidates:\n- {mapping(m)}\n".encode(), "search.yaml"),
    "Python": lambda m: merge([{}, {}], m, base={}, weights=[1, -1], **ELECTIONS.get(m, {})),
}


def test_every_method_that_elects_signs_is_among_those_that_refuse_negative_weights():
    assert {"ties", "dare", "della", "breadcrumbs", "knots", "lora_prune_svd"} == set(ELECTIONS)
    assert not set(ELECTIONS) & set(SIGNED)


@pytest.mark.parametrize("place", PLACES)
def test_negative_weights_are_refused_by_methods_that_divide_by_them(place):
    for method in UNSIGNED:
        with pytest.raises(MergeError, match=r"weights .* are not allowed|'weights' must"):
            PLACES[place](method)


@pytest.mark.parametrize("method", UNSIGNED)
def test_weights_below_what_divisors_can_be_are_refused(method):
    with pytest.raises(MergeError, match="not allowed") as raised:
        choice(method, ELECTIONS.get(method, {}), [1e-31, 1])
    assert "not below 1e-20" in str(raised.value.hint)
    assert choice(method, weights=[1e-20, 0]).weights == (1e-20, 0)


@pytest.mark.parametrize("method", sorted(ELECTIONS.keys() - {"lora_prune_svd", "knots"}))
def test_the_smallest_weight_does_not_change_a_weighted_mean_of_one_branch(method):
    values = np.array([1.0, -2.0, 3e-4, 0.0], np.float32)
    options = {name: option.default for name, option in find_merge(method).contract.options.items()}
    options |= {"density": 1.0, **ELECTIONS[method]} | ({"gamma": 0.0} if method == "breadcrumbs" else {})
    one, smallest = (
        find_merge(method)(
            Piece("w", np.zeros_like(values)[None], (values[None],), options, (weight,), (Trim(0, 0),), keys=(1,))
        )
        for weight in (1.0, 1e-20)
    )
    np.testing.assert_allclose(*(getattr(found, "value", found) for found in (smallest, one)), rtol=1e-6)
