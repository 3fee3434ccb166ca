"""The order in which candidates are tried, with scores of functions instead of evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from git_theta_ext.errors import LibraryError, MergeError
from git_theta_ext.merging.search.space import Candidate, Entry, Listed, Range, Sides, Space
from git_theta_ext.merging.search.strategies import candidates, first_candidates
from git_theta_ext.util import libraries

if TYPE_CHECKING:
    from collections.abc import Callable

TWO = ("a", "b")
LAMBDA = Entry("task_arithmetic", {"lambda": Range(0.0, 1.0, 3)})


def played(space: Space, score: Callable[[Candidate], float | None], branches=TWO, *, own=False) -> list[Candidate]:
    """Return all candidates of a search whose scores a function gives."""
    batches, tried = candidates(space, branches, own=own), []
    batch = next(batches, None)
    while batch is not None:
        assert batch, "an empty batch would be evaluated for nothing"
        tried += batch
        try:
            batch = batches.send([score(candidate) for candidate in batch])
        except StopIteration:
            batch = None
    return tried


def number(candidate: Candidate, name: str) -> float:
    return next(float(word.partition("=")[2]) for word in candidate.words if word.startswith(f"{name}="))


def words(found: list[Candidate]) -> list[str]:
    return [" ".join(candidate.words) for candidate in found]


def test_a_grid_has_every_combination_once() -> None:
    entry = Entry("ties", {"density": Listed((0.2, 0.5)), "lambda": Range(0.5, 1.0, 2)})
    assert words(played(Space((entry, Entry("average"), Entry("average"))), lambda _: 0.0)) == [
        "method=ties density=0.2 lambda=0.5",
        "method=ties density=0.2 lambda=1",
        "method=ties density=0.5 lambda=0.5",
        "method=ties density=0.5 lambda=1",
        "method=average",
    ]


def test_weights_of_all_zeros_are_left_out() -> None:
    entry = Entry("average", {}, Range(0.0, 1.0, 2))
    expected = ["0,1", "1,0", "1,1"]
    found = words(played(Space((entry,)), lambda _: 0.0, ["a"], own=True))
    assert found == [f"method=average weights={pair}" for pair in expected]


def test_the_weight_of_a_side_without_changes_is_not_tried() -> None:
    entry = Entry("average", {}, Range(0.5, 1.0, 2))
    found = words(played(Space((entry,)), lambda _: 0.0, ["a"]))
    assert found == ["method=average weights=1,0.5", "method=average weights=1,1"]


def test_a_large_grid_is_an_error_before_anything_is_tried() -> None:
    entry = Entry("ties", {name: Range(0.0, 1.0, 101) for name in ("density", "lambda")})
    with pytest.raises(MergeError, match="more than 10000 candidates"):
        first_candidates(Space((entry,)), TWO, own=False)


def test_weights_for_another_number_of_sides_are_an_error() -> None:
    with pytest.raises(MergeError, match="2 weights for average, but 3 sides"):
        first_candidates(Space((Entry("average", {}, (Listed((1.0,)), Listed((1.0,)))),)), TWO, own=False)


def test_logarithmic_ranges_have_equal_factors() -> None:
    assert Range(1e-4, 1e-1, 4, log=True).grid() == (1e-4, 1e-3, 1e-2, 1e-1)


def test_random_candidates_depend_on_the_seed_alone() -> None:
    spaces = [Space((LAMBDA, Entry("average")), "random", 8, seed) for seed in (1, 1, 2)]
    one, again, other = (played(space, lambda _: None) for space in spaces)
    assert one == again != other
    assert len(one) == 8
    assert all(0 <= number(candidate, "lambda") <= 1 for candidate in one[1:])


def test_greedy_keeps_branches_that_do_not_lower_the_score() -> None:
    worth = {"a": 1.0, "b": -2.0, "c": 3.0, "d": 0.0}
    space = Space((Entry("average"), LAMBDA), greedy=True)
    found = played(space, lambda one: sum(worth[branch] for branch in one.branches), list(worth))
    subsets = ["a", "b", "c", "d", "abcd", "ca", "cad", "cadb"]
    assert ["".join(candidate.branches) for candidate in found[: len(subsets)]] == subsets
    assert {candidate.branches for candidate in found[len(subsets) :]} == {("c", "a", "d")}
    assert len(found) == len(subsets) + 4


def test_greedy_leaves_out_branches_that_cannot_be_evaluated() -> None:
    def score(candidate: Candidate) -> float | None:
        return None if "b" in candidate.branches else 1.0

    found = played(Space((Entry("average"),), greedy=True), score)
    assert [candidate.branches for candidate in found] == [("a",), ("b",), ("a", "b"), ("a",)]
    assert played(Space((Entry("average"),), greedy=True), lambda _: None) == found[:3]


def test_branches_that_help_only_together_are_all_chosen() -> None:
    def score(candidate: Candidate) -> float:
        return {1: 0.5, 2: 0.4, 3: 0.9}[len(candidate.branches)]

    found = played(Space((Entry("average"), LAMBDA), greedy=True), score, ["a", "b", "c"])
    assert {candidate.branches for candidate in found[-3:]} == {("a", "b", "c")}


def test_greedy_takes_the_first_value_and_the_middle_of_a_range() -> None:
    entry = Entry("ties", {"density": Listed((0.3, 0.1)), "lambda": Range(0.0, 1.0)})
    found, complete = first_candidates(Space((entry,), "random", 3, greedy=True), TWO, own=False)
    assert words(found) == ["method=ties density=0.3 lambda=0.5"] * 3
    assert not complete


def test_evolution_comes_closer_to_the_best_values() -> None:
    pytest.importorskip("cma")
    entry = Entry("task_arithmetic", {"lambda": Range(0.0, 1.0)}, Range(0.0, 1.0))
    target = {"lambda": 0.8, "weights": 0.2}

    def score(candidate: Candidate) -> float:
        weights = next(word for word in candidate.words if word.startswith("weights=")).partition("=")[2].split(",")
        assert weights[0] == "1"
        return -abs(number(candidate, "lambda") - target["lambda"]) - abs(float(weights[1]) - target["weights"])

    found = played(Space((entry,), "evolution", 120), score, ["a"])
    assert len(found) <= 120
    assert max(map(score, found[:6])) < max(map(score, found)) > -0.05
    assert played(Space((entry,), "evolution", 120), score, ["a"]) == found, "the same scores lead the same way"
    assert played(Space((entry,), "evolution", 120, 1), score, ["a"]) != found


def test_evolution_shares_the_trials_and_goes_on_after_failures() -> None:
    pytest.importorskip("cma")
    entries = (Entry("average"), LAMBDA, Entry("ties", {"lambda": Range(0.0, 1.0)}))
    found = played(Space(entries, "evolution", 33), lambda _: None)
    assert found[0].words == ("method=average",)
    for method in ("task_arithmetic", "ties"):
        assert 4 <= sum(candidate.words[0] == f"method={method}" for candidate in found) <= 16


def test_evolution_names_the_extra_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(libraries, "import_module", absent)
    with pytest.raises(LibraryError, match="cma") as raised:
        played(Space((LAMBDA,), "evolution", 10), lambda _: 0.0)
    assert raised.value.hint == "pip install 'git-theta-ext[search]'"


def test_values_of_a_range_have_few_digits_and_stay_in_it() -> None:
    assert Range(0.0, 1 / 3).at(0.5) == 0.1667
    assert Range(0.0, 2 / 3).at(1.0) == 2 / 3, "rounded up, it would be outside"


def test_each_side_can_have_values_of_its_own() -> None:
    axis = Range(0.0, 1.0)
    (problem,) = Entry("average", {}, (Listed((1.0,)), axis)).problems(Sides(2))
    assert problem.ranges == [axis]
    candidate = problem.candidate(["a"], [0.25])
    assert candidate is not None
    assert candidate.words == ("method=average", "weights=1,0.25")
