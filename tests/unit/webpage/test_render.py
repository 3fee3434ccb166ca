import base64
import hashlib
import math
import re

import pytest

from git_theta_ext.webpage.blocks import Cell, Heatmap, Page, Section, Table
from git_theta_ext.webpage.colours import legend, level, level_of_share
from git_theta_ext.webpage.layers import heatmap_of_layers
from git_theta_ext.webpage.render import render


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"), (1e-30, "1"), (0.9e-4, "1"), (1e-4, "2"), (1e-3, "4"), (0.02, "6"), (0.1, "8"), (0.4, "9"),
        (50.0, "9"), (math.inf, "x"), (math.nan, "x"),
    ],
)  # fmt: skip
def test_two_levels_are_a_factor_of_ten(value, expected):
    assert level(value) == expected


def test_the_key_says_where_each_group_of_colours_ends():
    groups = []
    for name, label in legend():
        groups.append(name if not groups or groups[-1][-1] == "/" else groups.pop() + name)
        groups[-1] += f": {label}/" if label else ""
    assert groups == [
        "0: same/", "1: below 0.01 %/", "23: to 0.1 %/", "45: to 1 %/", "67: to 10 %/", "89: above/",
        "x: NaN, inf or from zero/", "u: no number/",
    ]  # fmt: skip
    assert [level(limit * 0.99) for limit in (1e-4, 1e-3, 1e-2, 1e-1)] == ["1", "3", "5", "7"]


def test_shares_have_colours_in_equal_steps_and_a_key_of_their_own():
    assert [level_of_share(share) for share in (None, 0.0, 0.01, 1 / 9, 1 / 3, 0.34, 0.5, 0.99, 1.0)] == [
        "u", "0", "1", "1", "3", "4", "5", "9", "9"
    ]  # fmt: skip
    chart = Heatmap("Changes", "a by b", "Share", ["c"], {"w": [Cell(0.5, "w: half", "w")]}, shares=True)
    page = render(Page("Log", [], [Section("m", [], [chart])]))
    assert '<rect class="h5"' in page
    assert "to two thirds" in page
    assert "10 %" not in page


def test_columns_without_text_are_left_out():
    table = Table("Parameters", ("name", "rank", "share"), [("a", "", "5 %"), ("", "", "")], {(0, 2): 0.05})
    page = render(Page("Diff", [], [Section("m", [], [table])]))
    assert re.findall("<th[^>]*>([^<]*)", page[page.index("<thead") :]) == ["", "name", "share"]
    assert page.count("<td") == 4


def test_dates_are_not_broken_and_names_are():
    table = Table(
        "Commits", ("commit", "date"), [("a-b", "2026-11-29"), ("c", "a subject that is long - and so on")], {}
    )
    page = render(Page("Log", [], [Section("m", [], [table])]))
    assert '<td>a-b</td><td class="whole">2026-11-29</td>' in page
    assert "<td>a subject that is long - and so on</td>" in page


def test_names_of_parameters_are_broken_after_dots_and_not_within_numbers():
    row = ("layers.0.attn.weight & density=0.5", "a.b")
    page = render(Page("Diff", [], [Section("m", [], [Table("Parameters", ("name", "kind"), [row], {})])]))
    assert "<td>layers.<wbr>0.<wbr>attn.<wbr>weight &amp; density=0.5</td><td>a.b</td>" in page


def test_a_page_of_a_thousand_parameters_is_smaller_than_a_megabyte():
    names = [
        f"model.language_model.layers.{layer}.{module}.base_layer.weight"
        for layer in range(100)
        for module in ("self_attn.q_proj", "self_attn.k_proj", "mlp.gate_proj", "mlp.up_proj", "input_layernorm")
        for module in (module, f"{module}.default")
    ]
    chart = heatmap_of_layers("Change", [(name, 0.01, "1 %") for name in names])
    table = Table("Parameters", ["name"] * 9, [[name, *["0.123456"] * 8] for name in names], {})
    page = render(Page("Diff", [], [Section("model.safetensors", [], [chart, table])]))
    assert page.count("<tr>") == len(names) + 1 == 1001
    assert len(page.encode()) < 1_000_000


def test_the_policy_allows_the_page_itself_alone():
    page = render(Page("Diff", [], []))
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        content = re.search(f"<{tag}>(.*)</{tag}>", page, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in page
    assert "default-src 'none'" in page
    assert not re.search("https?://", page)
