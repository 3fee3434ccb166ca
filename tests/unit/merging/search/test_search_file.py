"""The file that says what a search tries."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from git_theta_ext.errors import MergeError, ThetaError
from git_theta_ext.merging.search.file import read_space
from git_theta_ext.merging.search.space import Entry, Listed, Range
from git_theta_ext.merging.search.strategies import first_candidates

DOCUMENT = Path(__file__).parents[4] / "docs/searching.md"


def read(candidates: str, top: str = ""):
    return read_space(f"version: 1\n{top}\ncandidates:\n{candidates}".encode(), "search.yml")


def test_values_lists_and_ranges_are_read() -> None:
    space = read("  - {method: ties, with: {density: 0.3, scope: [model, tensor], lambda: {from: 0, to: 1, steps: 3}}}")
    density, scope, scale = Listed((0.3,)), Listed(("model", "tensor")), Range(0.0, 1.0, 3)
    assert space.entries == (Entry("ties", {"density": density, "scope": scope, "lambda": scale}),)
    assert (space.how, space.greedy) == ("grid", False)


def test_integers_of_a_range_are_whole() -> None:
    space = read("  - {method: consensus_ta, with: {k: {from: 1, to: 4, steps: 4}}}")
    assert space.entries[0].options["k"].grid() == (1.0, 2.0, 3.0, 4.0)


def test_one_range_of_weights_is_for_every_side() -> None:
    space = read("  - {method: average, weights: {from: 0, to: 1}}", "search: evolution\ntrials: 20\nseed: 4")
    assert space.entries == (Entry("average", {}, Range(0.0, 1.0)),)
    assert (space.trials, space.seed) == (20, 4)


def test_values_along_the_depth_and_sides_are_alternatives_as_well() -> None:
    space = read('  - {method: task_arithmetic, with: {lambda: [1, "0,0.5,1"]}, sides: [all, changed]}')
    found, _ = first_candidates(space, ["a"], own=True)
    words = [" ".join(candidate.words) for candidate in found]
    assert words[:2] == ["method=task_arithmetic lambda=1 sides=all", "method=task_arithmetic lambda=1 sides=changed"]
    assert words[2] == "method=task_arithmetic lambda=0,0.5,1 sides=all"


@pytest.mark.parametrize("key", ["eval", "evaluate", "command"])
def test_the_file_cannot_name_a_command(key: str) -> None:
    with pytest.raises(MergeError, match=f"line 2: unknown key '{key}'"):
        read("  - {method: average}", f"{key}: touch stolen")


@pytest.mark.parametrize(
    ("candidates", "top", "wrong"),
    [
        ("  - {method: tys}", "", "line 4: .*'tys'"),
        ("  - {method: ties, with: {densty: 0.5}}", "", "line 4: method 'ties' has no option 'densty'"),
        ("  - {method: ties, with: {density: [0.5, 2]}}", "", "line 4: option 'density' of 'ties' is 2"),
        ("  - {method: ties, with: {density: {from: 0.5, to: 2, steps: 2}}}", "", "line 4: option 'density' .* is 2"),
        ("  - {method: ties, with: {lambda: {from: 1, to: 0.5, steps: 2}}}", "", "the smaller one first"),
        ("  - {method: ties, with: {lambda: {from: 0, to: 1}}}", "", "a grid needs 'steps'"),
        ("  - {method: ties, with: {lambda: {from: 0, to: 1, scale: log, steps: 3}}}", "", "must be above 0"),
        ("  - {method: ties, with: {lambda: {from: 0, to: 1, steps: 1}}}", "", "'steps' must be an integer from 2"),
        ("  - {method: ties, with: {lambda: []}}", "", "expected a value"),
        ("  - {method: slerp, weights: [1, 1]}", "", "method 'slerp' takes no weights"),
        ("  - {method: ties, weights: [1, -1]}", "", "line 4: .*weights"),
        ("  - {method: average, weights: [1, x]}", "", "line 4: .*weights"),
        ("  - {method: average, sides: [all, none]}", "", "line 4: 'sides' is 'none'"),
        ("  - {method: average, weights: 2}", "", "'weights' must be a list"),
        ("  - {method: average, weights: [1, 1]}", "branches: greedy", "'weights' must be a range"),
        ("  - {method: average}", "search: evolution", "'trials' is needed"),
        ("  - {method: average}", "trials: 3", "a grid has as many candidates as its values make"),
        ("  - {method: average}", "search: bayes", "'search' must be one of grid, random, evolution"),
        ("  []", "", "must list at least one method"),
    ],
)
def test_mistakes_are_errors_that_name_the_line(candidates: str, top: str, wrong: str) -> None:
    with pytest.raises(ThetaError, match=wrong) as raised:
        read(candidates, top)
    assert raised.value.hint


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL))
def test_examples_of_the_documentation_are_valid(text: str) -> None:
    assert read_space(text.encode(), "search.yml").entries
