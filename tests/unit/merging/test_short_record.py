"""Records of merges as one line: what they say, and that nothing else is taken for one."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.errors import MergeError, PluginError, ThetaError
from git_theta_ext.merging.record import Record, Step
from git_theta_ext.merging.rules.rules import Rule, Rules, choice
from git_theta_ext.merging.short_record import ShortRecord, is_short, recorded_path
from git_theta_ext.records import replace

BASE, OURS, THEIRS = ("a" * 40, "b" * 40, "c" * 40)
COMMITS = ("d" * 40, "e" * 40)
FILE = "f" * 40


def record(rules=None, path="model.safetensors", versions=None, steps=()):
    rules = Rules(choice("ties", {"density": 0.5})) if rules is None else rules
    return Record(path, BASE, (OURS, THEIRS), COMMITS, rules, versions or {}, steps=steps, tool="0.1.0")


def again(text, whole):
    """Return the record that a line stands for at the commits of ``whole``, as JSON; None for another merge's."""
    short = ShortRecord.from_text(text)
    restored = short.restored(whole.base, whole.sides, whole.commits, short.rules)
    return None if restored is None else restored.to_json()


GOLDEN = (
    "model.safetensors by ties density=0.5 scope=model ties=original lambda=1 majority=mass;"
    " resolved layers.* by theirs; resolved by grow average weights=0.3,0.7"
    " (git-theta 0.1.0, average 2, ties 1, digest 8b8c716cd90265f9)"
)


def test_a_line_that_an_earlier_version_wrote_is_read():
    steps = (
        Step(Rules.only("theirs"), ("layers.*",)),
        Step(Rules(choice("grow", weights=(0.3, 0.7)))),
    )
    whole = record(versions={"average": 2, "ties": 1}, steps=steps)
    assert ShortRecord.of(whole).to_text() == GOLDEN
    assert again(GOLDEN, whole) == whole.to_json()


def test_a_search_is_said_at_the_end():
    search = {"search": "grid", "candidates": "9", "highest": "0.845", "before": "-0.81"}
    steps = (Step(Rules.only("theirs"), ("chosen",)),)
    whole = replace(record(path="chosen", steps=steps), search=search)
    text = ShortRecord.of(whole).to_text()
    said = "; resolved chosen by theirs; chosen search=grid candidates=9 highest=0.845 before=-0.81 (git-theta "
    assert said in text
    assert again(text, whole) == whole.to_json()
    assert again(text.replace("0.845", "0.945"), whole) is None
    assert Record.from_json(whole.to_json()).search == search


def test_rules_of_the_file_are_named_by_it():
    rules = Rules(choice("average"), (Rule("head.*", choice("theirs")),))
    whole = record(rules)
    text = ShortRecord.of(whole, FILE).to_text()
    assert text.startswith("model.safetensors by .thetamerge (git-theta ")
    short = ShortRecord.from_text(text)
    assert short.restored(BASE, (OURS, THEIRS), COMMITS, rules, FILE).to_json() == whole.to_json()
    assert short.restored(BASE, (OURS, THEIRS), COMMITS, rules, OURS) is None
    assert short.restored(BASE, (OURS, THEIRS), COMMITS, rules) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [({"lambda": [0, 0.5, 1]}, "lambda=0,0.5,1"), ({"lambda": 2}, "lambda=2 weights=1,3"), ({}, "lambda=1 sides=all")],
)
def test_options_that_change_with_the_depth_and_all_sides_fit_a_line(options, words):
    weights = (1, 3) if "weights" in words else ()
    chosen = replace(choice("task_arithmetic", options, weights), every_side="sides" in words)
    whole = record(Rules(chosen))
    text = ShortRecord.of(whole).to_text()
    assert text.startswith(f"model.safetensors by task_arithmetic {words} (")
    assert again(text, whole) == whole.to_json()


@pytest.mark.parametrize(
    ("base", "sides"), [(None, (OURS, THEIRS)), (OURS, (OURS, THEIRS)), (BASE, (THEIRS, OURS)), (BASE, (OURS,))]
)
def test_other_versions_are_another_merge(base, sides):
    short = ShortRecord.of(record())
    assert short.restored(base, sides, COMMITS, short.rules) is None


@given(
    st.text(min_size=1).filter(lambda text: text.isprintable()),
    st.lists(st.text(min_size=1, max_size=9).filter(str.isprintable), max_size=3),
    st.floats(0.001, 1),
)
def test_any_path_pattern_and_number_comes_back(path, patterns, density):
    rules = Rules(choice("ties", {"density": density}, (density, 1)))
    whole = record(rules, path, steps=(Step(Rules.only("theirs"), tuple(patterns)),))
    text = ShortRecord.of(whole).to_text()
    assert is_short(text)
    assert "\n" not in text
    assert recorded_path(text) == recorded_path(whole.to_json()) == path
    assert again(text, whole) == whole.to_json()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model.safetensors",
        "model.safetensors by ties",
        GOLDEN[:-1],
        GOLDEN.replace(" by ties", " ties", 1),
        GOLDEN.replace("; resolved", "; also", 1),
        GOLDEN.replace("; resolved", "\\ resolved", 1),
        GOLDEN.replace(" resolved layers.*", "", 1),
        GOLDEN.replace("density=0.5", "density"),
        GOLDEN.replace("density=0.5", "density=0.5 density=1"),
        GOLDEN.replace("weights=0.3", "weights=x"),
        GOLDEN.replace("model.safetensors", '"model'),
        GOLDEN.replace("model.safetensors", "model safetensors"),
        GOLDEN.replace("ties 1", f"ties {'1' * 5000}"),
        GOLDEN.replace("model", "m" * 200_000),
        '"' * 1000,
        "; " * 1000 + GOLDEN,
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(MergeError):
        ShortRecord.from_text(text)


def test_a_method_that_is_not_installed_is_named():
    with pytest.raises(PluginError, match="avarage"):
        ShortRecord.from_text(GOLDEN.replace("grow average", "grow avarage"))


@given(st.text())
def test_no_text_ends_in_another_error(text):
    for each in (text, f"{text} by average (git-theta 0.1.0, digest {'0' * 16})"):
        with suppress(ThetaError):
            ShortRecord.from_text(each)
