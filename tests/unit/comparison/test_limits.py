"""Limits for CI are read by a parser of their own, and decide for each change."""

import math

import pytest

from git_theta_ext.comparison.changes import Kind, ParameterChange
from git_theta_ext.comparison.distance import Distance, Rank
from git_theta_ext.comparison.limits import parse_limit
from git_theta_ext.errors import UsageError
from git_theta_ext.model.manifest import Parameter
from git_theta_ext.model.tensor import Digest, TensorSpec


def version(kind="F32"):
    return Parameter(TensorSpec.of(kind, (4,)), Digest("0" * 64))


NEAR = Distance(100, 3, 0.5, 1.0, 1.0, 0.25, flips=2, nan_new=1, rank=Rank(8))
MODIFIED = ParameterChange("w", Kind.MODIFIED, version(), version("BF16"), distance=NEAR)
ADDED = ParameterChange("x", Kind.ADDED, new=version())


@pytest.mark.parametrize(
    ("limit", "modified", "added"),
    [
        ("rel_change > 0.05", True, False),
        ("rel_change>5e-1", False, False),
        ("rel_change >= .5", True, False),
        ("cosine < 0.9 and rank <= 8", True, False),
        ("rank > 8 or nan > 0", True, False),
        ("not (rank > 8 or nan > 0)", False, True),
        ("rank > 8 or nan > 0 and inf > 0", False, False),
        ("(rank == 8 or nan > 0) and inf == 0", True, False),
        ("added", False, True),
        ("recast and not reshaped", True, False),
        ("modified and share > 0.02 and flips != 1 and largest < 1", True, False),
        ("cosine > -1", True, False),
        ("changed >= 3 and norm > 0.1 and norm_old > 0 and norm_new > 0", True, False),
    ],
)
def test_a_limit_decides_for_each_change(limit, modified, added):
    exceeded = parse_limit(limit).exceeded_by
    assert (exceeded(MODIFIED), exceeded(ADDED)) == (modified, added)


@pytest.mark.parametrize("limit", ["rel_change > 0.05", "rel_change < 0.05", "rel_change == 0"])
def test_nan_exceeds_every_limit(limit):
    broken = ParameterChange("w", Kind.MODIFIED, version(), version(), distance=Distance(4, 4, math.nan, 1.0, math.nan))
    assert parse_limit(limit).exceeded_by(broken)


def test_only_numbers_need_values():
    assert parse_limit("added or rank > 3").measured
    assert not parse_limit("added or removed").measured


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("", "unknown name ''"),
        ("rel_change", "a comparison"),
        ("rel_change > ", "a number, not the end"),
        ("rel_change > high", "a number, not 'high'"),
        ("rel_change > 1 2", "the end, not '2'"),
        ("(rank > 1", "parenthesis is missing"),
        ("rank > 1 and", "unknown name ''"),
        ("__import__('os')", "unknown name '__import__'"),
        ("rank > 1; added", "unexpected ';'"),
        ("(" * 30 + "added" + ")" * 30, "more than 20"),
        ("not " * 30 + "added", "more than 20"),
        ("a" * 2000, "2000 characters"),
    ],
)
def test_everything_else_is_refused(limit, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")) as caught:
        parse_limit(limit)
    assert "rel_change" in caught.value.hint


def test_a_value_that_is_not_here_is_known_to_be_unavailable():
    assert ParameterChange("w", Kind.MODIFIED, version(), version()).unavailable
    assert not MODIFIED.unavailable
    assert not ADDED.unavailable
    assert not ParameterChange("w", Kind.MODIFIED, version("I32"), version()).unavailable
