"""What the web page of a diff shows."""

import math

from git_theta_ext.comparison.changes import ModelChange
from git_theta_ext.comparison.compare import compare
from git_theta_ext.comparison.distance import Distance, Rank
from git_theta_ext.comparison.page import diff_page
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.tensor import Digest, TensorSpec
from git_theta_ext.webpage.blocks import Heatmap, Histogram, Table
from git_theta_ext.webpage.render import render


def manifest(values):
    parameters = {
        name: Parameter(TensorSpec.of("F32", (4, 4)), Digest(f"{value:064x}")) for name, value in values.items()
    }
    return Manifest("safetensors", Skeleton(Digest("0" * 64), 9), parameters)


def blocks(old, new, distances):
    change = ModelChange("m.safetensors", compare(manifest(old), manifest(new)), distances)
    page = diff_page("git theta diff v1", [change])
    assert render(page)
    return page.sections[0].blocks


def test_the_heat_map_shows_which_layers_changed_and_what_has_no_number():
    old = {f"layers.{layer}.{module}": 3 * layer + n for layer in range(11) for n, module in enumerate("qv")}
    new = old | {"layers.9.q": 100, "layers.10.q": 101, "layers.10.v": 102, "head": 103}
    distances = {"layers.9.q": Distance(16, 4, 0.5, 1.0, 1.0), "layers.10.q": Distance(16, 1, math.nan, 1.0)}
    chart = blocks(old, new, distances)[0]
    assert isinstance(chart, Heatmap)
    assert list(chart.columns) == ["-", *map(str, range(11))]
    assert [cell and cell.value for cell in chart.rows["layers.q"][1:11]] == [*[0.0] * 9, 0.5]
    assert math.isnan(chart.rows["layers.q"][-1].value)
    assert (chart.rows["layers.v"][-1].value, chart.rows["layers.v"][-1].text) == (None, "layers.10.v: modified")
    assert chart.rows["head"][0].text == "head: added"


def test_structure_comes_first_in_the_table_and_alarms_before_what_moved_most():
    old = {"gone": 1, "was": 2, "a": 3, "b": 4, "c": 5}
    new = {"now": 2, "new": 6, "a": 13, "b": 14, "c": 15}
    distances = {
        "a": Distance(16, 8, 0.25, 1.0, 1.0, 0.1, 3, rank=Rank(2)),
        "b": Distance(16, 16, 0.5, 1.0, 1.0),
        "c": Distance(16, 16, math.inf, 1.0, math.inf, infinite_new=2),
    }
    histogram, movers, table = blocks(old, new, distances)
    assert isinstance(histogram, Histogram)
    assert isinstance(movers, Table)
    assert histogram.bins["1e-1"] == 2
    assert histogram.bins["NaN, inf"] == 1
    assert [row[:2] for row in table.rows] == [
        ["gone", "removed"], ["new", "added"], ["now", "renamed from was"], ["c", "modified"], ["b", "modified"],
        ["a", "modified"],
    ]  # fmt: skip
    assert table.rows[-1][3:] == ["2.50e-01", "0.96875", "1.00e-01", "50 %", "3", "2", ""]
    assert table.rows[3][-1] == "2"
    assert table.shares[5, 6] == 0.5


def test_a_large_diff_names_the_command_that_shows_the_rest():
    table = blocks({}, {f"w.{n}": n for n in range(2500)}, {})[-1]
    assert len(table.rows) == 2000
    assert table.left_out == "500 more changed less; git theta diff --json has all."


def test_nothing_is_said_of_what_changed_most_if_nothing_was_measured():
    (table,) = blocks({"a": 1, "b": 2}, {"a": 3, "b": 4}, {})
    assert [row[0] for row in table.rows] == ["a", "b"]
