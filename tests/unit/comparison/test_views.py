"""The views of a diff: all numbers, bars, and Markdown."""

import math

from git_theta_ext.comparison.changes import ModelChange
from git_theta_ext.comparison.compare import compare
from git_theta_ext.comparison.distance import Distance, Rank
from git_theta_ext.comparison.markdown import render_markdown
from git_theta_ext.comparison.numbers import percent
from git_theta_ext.comparison.page import diff_page
from git_theta_ext.comparison.schema import to_json
from git_theta_ext.comparison.screen import Screen
from git_theta_ext.comparison.stat import render_stat
from git_theta_ext.comparison.text import render
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import Digest, TensorSpec
from git_theta_ext.operations.diff.selection import Selection


def manifest(seed, *names):
    parameters = {
        name: Parameter(TensorSpec.of("F32", (4, 4)), Digest(f"{seed * 1000 + number:064x}"))
        for number, name in enumerate(names)
    }
    return Manifest("safetensors", Skeleton(Digest("0" * 64), 9), parameters)


def moved(size, rank=None, nan=0):
    return Distance(16, 8, size, 1.0, 1.0, size / 2, flips=1, nan_new=nan, rank=rank)


def change(distances, *others):
    names = [*distances, *others]
    return ModelChange("m.safetensors", compare(manifest(1, *names), manifest(2, *names)), distances)


LAYERS = {"layers.0.w": moved(0.1, Rank(8)), "layers.1.w": moved(0.2, Rank(8)), "b": moved(0.05, Rank(48, exact=False))}


def test_low_ranks_are_shown_and_bounds_only_with_all_numbers():
    lines = render(change(LAYERS), Screen()).splitlines()[2:]
    assert lines == [
        "~ layers.{0-1}.w  F32 [4,4]  2 modified  rel. change 1.0e-01 … 2.0e-01, 50 % of elements, rank 8",
        "~ b               F32 [4,4]  modified    rel. change 5.0e-02, 50 % of elements",
    ]
    full = render(change(LAYERS), Screen(), full=True).splitlines()[2:]
    assert [line.split()[1] for line in full] == ["layers.1.w", "layers.0.w", "b"]
    assert full[2].endswith(
        "rel. change 5.0e-02, cosine 0.999, largest 2.5e-02, 50 % of elements, 1 sign flip, rank ≥ 48, norm 1 -> 1"
    )


def test_a_narrow_terminal_shows_names_before_the_share_of_elements():
    lines = render(change(LAYERS), Screen(70)).splitlines()[2:]
    assert lines == [
        "~ layers.{0-1}.w  F32 [4,4]  x2  rel. change 1.0e-01 … 2.0e-01, rank 8",
        "~ b               F32 [4,4]      rel. change 5.0e-02",
    ]
    full = render(change(LAYERS), Screen(70), full=True)
    assert full.count("50 % of elements") == 3


def test_the_full_view_has_no_limit_of_lines():
    names = [f"p{'x' * (n % 50)}{n:x}z" for n in range(200)]
    assert len(render(change({}, *names), Screen(), full=True).splitlines()) == 202


def test_values_that_became_nan_raise_an_alarm():
    lines = render(change({"w": moved(math.nan, nan=3)}), Screen()).splitlines()
    assert lines[2] == "! NaN or infinite values appeared in 1 parameter"
    assert lines[3].endswith("rel. change nan, 50 % of elements, 3 NaN")


def test_bars_are_as_long_as_the_change():
    lines = render_stat(change(LAYERS), Screen()).splitlines()
    assert lines[0] == "m.safetensors"
    assert lines[1] == " layers.{0-1}.w | 2 1.0e-01 … 2.0e-01 " + "~" * 20
    assert lines[2].startswith(" b              | 1 5.0e-02           ~~~~~~")
    assert lines[-1] == " 3 modified, 0 unchanged; 192 B of 192 B differ"
    assert "\x1b[33m~" in render_stat(change(LAYERS), Screen(colour=True))
    assert render_stat(change({}, "w"), Screen()).splitlines()[1] == " w | 1 modified ~"
    wide = render_stat(change({"x" * 200: moved(0.1)}), Screen(80)).splitlines()[1]
    assert len(wide) <= 80


def test_markdown_has_a_table_for_each_model():
    lines = render_markdown([change(LAYERS)], ["other.bin"]).splitlines()
    assert lines[0] == "### `m.safetensors`"
    assert lines[4].startswith("| parameters | type |")
    assert lines[6].startswith("| `layers.{0-1}.w` | `F32 [4,4]` | `2 modified` | 1.0e-01 … 2.0e-01 | 0.988")
    assert lines[-1] == "Unmerged path `other.bin`"


def test_a_module_whose_name_is_markdown_stays_text():
    name = "[x](http://x) @all `"
    diff = compare(manifest(1, "b", f"{name}.v", f"{name}.w"), manifest(1, "b"))
    lines = render_markdown([ModelChange("m.safetensors", diff, {})]).splitlines()
    assert lines[2].endswith(f"differ, all in `` {name} ``")


def test_shares_have_two_digits_and_large_ones_no_exponent():
    shares = (0, 1e-7, 0.0123, 0.0996, 0.4, 0.994, 0.9997, 1)
    assert [percent(share) for share in shares] == [
        "0 %", "1e-05 %", "1.2 %", "10 %", "40 %", "99 %", "100 %", "100 %"
    ]  # fmt: skip
    assert render_markdown([]) == "No parameters changed.\n"


def test_names_cannot_write_markdown():
    names = ["a|b", "``` <img src=x> `", "line\nfeed"]
    text = render_markdown([change({}, *names)])
    assert r"`a\|b`" in text
    assert "```` ``` <img src=x> ` ````" in text
    assert r'`"line\nfeed"`' in text
    assert len(text.splitlines()) == 9


def test_small_changes_count_as_unchanged():
    whole = change(LAYERS, "unknown")
    large, small = Selection(tolerance=0.05).large(whole.diff, whole.distances)
    assert small == 2
    assert sorted(large.modified) == ["layers.1.w", "unknown"]
    assert (sorted(large.unchanged), large.fresh, large.fresh_bytes) == (["b", "layers.0.w"], 2, 128)
    nan = change({"w": Distance(16, 1, 0.0, 1.0, 1.0, 0.0, nan_old=1, nan_new=1)})
    assert Selection(tolerance=1.0).large(nan.diff, nan.distances) == (nan.diff, 0)
    assert Selection().large(whole.diff, whole.distances) == (whole.diff, 0)


def grown(distance, *, shape=(6, 4)):
    old = manifest(1, "emb")
    new = Manifest("safetensors", old.skeleton, {"emb": Parameter(TensorSpec.of("F32", shape), Digest("f" * 64))})
    return ModelChange("m.safetensors", compare(old, new), {"emb": distance} if distance else {})


def test_numbers_of_common_rows_say_so():
    found = grown(moved(0.1))
    line = "~ emb  F32 [4,4] -> F32 [6,4]  modified  rel. change 1.0e-01, 50 % of elements, in the first 4 rows"
    assert render(found, Screen()).splitlines()[2] == line
    assert render(found, Screen(), full=True).splitlines()[2].endswith("norm 1 -> 1, in the first 4 rows")
    assert "| `modified` (numbers of the first 4 rows) | 1.0e-01 |" in render_markdown([found])
    (row,) = to_json(found)["parameters"]
    assert (row["reshaped"], row["common_rows"], row["stats"]["elements"]) == (True, 4, 16)
    (table,) = [
        block for block in diff_page("t", [found]).sections[0].blocks if getattr(block, "title", "") == "All changes"
    ]
    assert table.rows[0][1] == "modified, numbers of the first 4 rows"
    same = grown(Distance(16, 0, 0.0, 1.0, 1.0, 0.0))
    assert render(same, Screen()).splitlines()[2].endswith("modified  the first 4 rows did not change")


def test_rows_of_another_shape_have_no_numbers_and_none_are_missing():
    (change,) = grown(None, shape=(4, 5)).changes
    assert (change.common_rows, change.unavailable) == (None, False)
    (change,) = grown(None).changes
    assert (change.common_rows, change.unavailable) == (None, True)
