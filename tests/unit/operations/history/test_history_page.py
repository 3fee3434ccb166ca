"""What the web page of a model's history shows."""

from git_theta_ext.comparison.changed_names import ChangedNames
from git_theta_ext.comparison.changes import ModelChange
from git_theta_ext.comparison.compare import compare
from git_theta_ext.comparison.distance import Distance
from git_theta_ext.git.commit_log import Commit
from git_theta_ext.operations.history.changes import ChangedModel, CommitChanges
from git_theta_ext.operations.history.page import history_page


def commit(number, path="m.safetensors", old_path="m.safetensors", **names):
    about = Commit(f"{number:040x}"[::-1], (), "2026-01-02T03:04:05Z", "Ada", f"commit {number}", {}, ())
    changed = {"added": (), "removed": (), "modified": (), "renamed": {}, "moved": 0, "unchanged": 0, "nbytes": 0}
    return CommitChanges(about, (ChangedModel(path, old_path, False, ChangedNames(**(changed | names)), ()),))


def test_a_row_has_the_parameters_of_a_module_and_a_column_is_a_commit():
    history = [
        commit(3, modified=("layers.0.w",)),
        commit(2, modified=("head",)),
        commit(1, old_path=None, added=("head", "layers.0.w", "layers.1.w")),
    ]
    (section,) = history_page("git theta log", history).sections
    chart, table = section.blocks
    assert list(chart.columns) == ["100000000", "200000000", "300000000"]
    assert list(chart.rows) == ["head", "layers.*.w"]
    first, second, third = chart.rows["layers.*.w"]
    assert (first.value, second, third.value) == (1.0, None, 0.5)
    assert (first.pattern, third.pattern) == ("layers.*.w", "layers.0.w")
    assert third.text == "300000000 2026-01-02 layers.0.w: 1 of 2 changed"
    assert [row[3] for row in table.rows] == ["commit 3", "commit 2", "commit 1"]


def test_with_numbers_a_cell_has_the_change_of_its_parameters_as_one():
    distances = {"layers.0.w": Distance(4, 4, 3.0, 6.0, 6.0), "layers.1.w": Distance(4, 4, 4.0, 8.0, 8.0)}
    history = [commit(1, modified=("head", *distances))]
    (section,) = history_page(
        "git theta log", history, lambda _: ModelChange("m", compare(None, None), distances)
    ).sections
    rows = section.blocks[0].rows
    assert (rows["layers.*.w"][0].value, rows["head"][0].value) == (0.5, None)
    assert section.blocks[0].scale == "Relative change"


def test_a_renamed_model_keeps_its_history_and_long_ones_are_cut_from_the_map():
    history = [commit(90, "b.pt", "a.pt", renamed={"y": "x"})]
    history += [commit(n, "a.pt", "a.pt", modified=tuple(f"p{k}" for k in range(n))) for n in range(60, 0, -1)]
    (section,) = history_page("git theta log", history).sections
    chart, table = section.blocks
    assert section.title == "b.pt"
    assert section.facts == ["61 commits changed it.", "The map has the last 50."]
    assert len(chart.columns) == 50
    assert len(table.rows) == 61
