import pytest

from git_theta_ext.merging.rules.globs import matcher


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("model.layers.*.mlp.**", "model.layers.3.mlp.up.weight", True),
        ("model.layers.*.mlp.**", "model.layers.3.4.mlp.up", False),
        ("model.**.mlp.**", "model.mlp.x", True),
        ("model.**.mlp.**", "model.a.b.mlp.x", True),
        ("model.**.mlp.**", "modelx.mlp.x", False),
        ("**.bias", "bias", True),
        ("**.bias", "a.b.bias", True),
        ("**.bias", "a.xbias", False),
        ("a.**", "a", False),
        ("a.**", "a.b.c", True),
        ("*", "a.b", False),
        ("**", "a.b", True),
        ("w?", "w1", True),
        ("a?c", "a.c", False),
        ("layer[0-3]", "layer2", True),
        ("layer[!0-3]", "layer2", False),
        ("[[]x", "[x", True),
        ("[]]x", "]x", True),
        ("[+--]", ",", True),
        ("[--0]", ".", True),
        ("[&&a]", "&", True),
        ("a+b(c)", "a+b(c)", True),
        ("**x**y**z", "axbycz", True),
        ("*.weight", "x.weight[0:3]", True),
        ("x.weight", "x.weight[0:3,2:4]", True),
        ("**.weight", "weight[0,2]", True),
        ("*.weight[[]0:3]", "x.weight[0:3]", True),
        ("*.weight[[]0:3]", "x.weight[3:6]", False),
        ("*.weight", "x.weight[a]", False),
        ("*.weight", "x.weight[0:3].y", False),
    ],
)
def test_stars_stay_within_a_part_and_two_of_them_cross_parts(pattern, name, matches):
    assert bool(matcher(pattern).fullmatch(name)) == matches


@pytest.mark.parametrize("pattern", ["a" * 1001, "****a*b*c*d*e", "[z-a]"])
def test_patterns_that_are_too_much_or_make_no_sense_are_refused(pattern):
    with pytest.raises(ValueError, match=r"pattern|stars|class"):
        matcher(pattern)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("**a" * 60, "a" * 5000 + "b"), ("**.a*a*a" * 20, ".aaaa" * 1000 + "c"), ("**0", "[0" * 50_000)],
)
def test_no_name_takes_time_out_of_proportion(pattern, name):
    assert not matcher(pattern).fullmatch(name + "\n.")  # without care it would never come to an end
