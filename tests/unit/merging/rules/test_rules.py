import json

import pytest

from git_theta_ext.errors import MergeError, PluginError
from git_theta_ext.merging.rules.file import Override, parse_override, read_rules
from git_theta_ext.merging.rules.rules import Rules, choice

TEXT = b"""version: 1
defaults: {method: average}
rules:
  - match: "model.**"
    method: ties
    with: {density: 0.3, lambda: 2}
  - {match: "**.bias", method: average, weights: [0.7, 0.3]}
  - {match: "lm_head.*", method: conflict}
  - match: "**.embed.weight"
    method: grow
    with: {method: task_arithmetic, lambda: 0.5}
"""


def test_the_last_rule_that_matches_counts():
    rules = read_rules(TEXT)
    assert rules.choose("model.w").method == "ties"
    assert rules.choose("model.bias").weights == (0.7, 0.3)
    assert rules.choose("lm_head.w").method == "conflict"
    assert rules.choose("other") == rules.defaults
    assert rules.choose("model.w").origin == ".thetamerge line 4"


def test_options_are_completed_by_the_methods_defaults():
    options = read_rules(TEXT).choose("model.w").options
    assert options == {"density": 0.3, "lambda": 2, "scope": "model", "ties": "original", "majority": "mass"}


def test_a_file_that_only_some_sides_have_takes_the_weights_of_these():
    rules = read_rules(b"""version: 1
defaults: {method: average, weights: [1, 2, 3]}
rules:
  - {match: "a.**", method: average, weights: [1, [2, 4], [3, 5]]}
  - {match: "b.**", method: average, weights: [1, 2]}
""")
    taken = rules.of_sides([0, 2], 3)
    assert taken.choose("other").weights == (1, 3)
    assert [taken.choose("a.w", depth).weights for depth in (0, 0.5, 1)] == [(1, 3), (1, 4), (1, 5)]
    assert taken.choose("b.w").weights == (1, 2)
    assert rules.of_sides([0, 1, 2], 3) == rules


def test_grow_has_another_method_inside():
    found = read_rules(TEXT).choose("a.embed.weight")
    assert (found.method, found.grow, found.options) == ("task_arithmetic", True, {"lambda": 0.5})
    assert choice("grow").method == "average"


def test_without_a_file_everything_is_averaged():
    assert read_rules(None) == read_rules(b"") == Rules.only()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"rules: []\n", "line 1: expected the first key to be 'version: 1'"),
        (b"version: 2\n", "version: 1"),
        (b"version: 1\nrule: []\n", "line 2: unknown key 'rule'"),
        (b"version: 1\nversion: 1\n", "line 2: duplicate key 'version'"),
        (b"version: 1\nrules: {}\n", "line 2: 'rules' must be a list"),
        (b"version: 1\nrules: [{method: ties}]\n", "'match'"),
        (b"version: 1\nrules: [{match: '[z-a]', method: ties}]\n", "is not valid"),
        (b"version: 1\ndefaults: &a {method: ties}\n", "anchors"),
        (b"version: 1\ndefaults: {method: ties, with: {density: 2}}\n", "'density' of 'ties' is 2"),
        (b"version: 1\ndefaults: {method: ties, with: {density: yes}}\n", "'density' of 'ties' is True"),
        (b"version: 1\ndefaults: {method: ties, with: {scope: all}}\n", "'scope' of 'ties' is 'all'"),
        (b"version: 1\ndefaults: {method: ties, with: {densty: 1}}\n", "no option 'densty'"),
        (b"version: 1\ndefaults: {method: ours, with: {a: 1}}\n", "takes no options"),
        (b"version: 1\ndefaults: {method: slerp, weights: [1, 2]}\n", "takes no weights"),
        (b"version: 1\ndefaults: {method: average, weights: [0, 0]}\n", "weights .* are not allowed"),
        (b"version: 1\ndefaults: {method: !!python/name:os.system x}\n", "line 2"),
        (b"version: 1\ndefaults: {", "line"),
        (b"\xff", "UTF-8"),
        (b"#" * (1 << 20) + b"\n", "bytes"),
    ],
)
def test_what_makes_no_sense_is_named_with_its_line(text, words):
    with pytest.raises(MergeError, match=words):
        read_rules(text)


def test_a_misspelled_method_suggests_the_nearest():
    with pytest.raises(PluginError) as caught:
        read_rules(b"version: 1\ndefaults: {method: tise}\n")
    assert caught.value.hint == "did you mean 'ties'"


def test_a_method_from_outside_replaces_the_file():
    rules = read_rules(
        TEXT, [parse_override("config", ["method=theirs"]), parse_override("command line", ["dare", "seed=3"])]
    )
    assert rules.rules == ()
    assert (rules.defaults.method, rules.defaults.options["seed"]) == ("dare", 3)


def test_what_a_method_from_outside_replaces_need_not_fit():
    options = Override("settings", options={"density": "0.4"})
    assert read_rules(None, [options, Override("environment", "theirs")]).choose("w").method == "theirs"
    asked = [
        Override("settings", "avarage"),
        options,
        Override("environment", "ties"),
        Override("line", None, {"lambda": "2"}),
    ]
    assert read_rules(None, asked).choose("w").options["lambda"] == 2
    with pytest.raises(MergeError, match="settings: no method in the rules has the option 'density'"):
        read_rules(None, [options, Override("environment", None, {"density": "0.1"})])


def test_options_from_outside_change_every_method_that_has_them():
    rules = read_rules(TEXT, [parse_override("command line", ["lambda=0.1"])])
    assert rules.choose("model.w").options["lambda"] == rules.choose("a.embed.weight").options["lambda"] == 0.1
    assert rules.choose("model.w").options["density"] == 0.3
    assert rules.choose("a.embed.weight").grow
    with pytest.raises(MergeError, match="'epsilon'"):
        read_rules(TEXT, [parse_override("command line", ["epsilon=0.1"])])


def test_words_are_read_as_method_weights_and_options():
    assert parse_override("x", ["ties", "weights=1,2", "density=0.5"]) == Override(
        "x", "ties", {"density": "0.5"}, (1.0, 2.0)
    )
    with pytest.raises(MergeError, match="weights"):
        parse_override("x", ["weights=a"])


def test_rules_that_match_nothing_are_found():
    assert [rule.match for rule in read_rules(TEXT).idle(["model.w", "lm_head.w"])] == ["**.bias", "**.embed.weight"]


def test_recorded_rules_are_read_back():
    rules = read_rules(TEXT)
    again = Rules.from_dict(json.loads(json.dumps(rules.to_dict())))
    assert again.to_dict() == rules.to_dict()
    for name in ("model.w", "model.bias", "lm_head.w", "a.embed.weight", "other"):
        one, other = rules.choose(name), again.choose(name)
        assert (one.method, one.options, one.weights, one.grow) == (
            other.method,
            other.options,
            other.weights,
            other.grow,
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: " + "[" * 20_000, "line 2: lists and mappings are nested"),
        ("rules: " + "{a: " * 5_000, "line 2: lists and mappings are nested"),
        ("rules: [" + "[]," * 40_000 + "]", "line 2: too many rules"),
        ("defaults: {method: !!timestamp x}", "line 2: tags are not allowed"),
        ("defaults: {method: !!python/name:os.system x}", "line 2: tags are not allowed"),
        ("defaults: {method: 2020-99-99}", "line 2: not a valid value"),
        ("#" * (1 << 18), "the limit of 262144 bytes"),
    ],
)
def test_rules_that_would_take_long_or_mean_something_else_are_refused(text, message):
    with pytest.raises(MergeError, match=message):
        read_rules(b"version: 1\n" + text.encode())
