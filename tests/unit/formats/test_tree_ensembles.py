"""Models of XGBoost and LightGBM, against files that these libraries wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from git_theta_ext.errors import FormatError
from git_theta_ext.interfaces import NotSplittable
from git_theta_ext.testing import FormatTests
from git_theta_ext.testing.formats import lay_out
from git_theta_plugins.formats.lightgbm import FORMAT as LIGHTGBM
from git_theta_plugins.formats.xgboost import FORMAT as XGBOOST

GOLDEN = Path(__file__).parents[2] / "golden" / "formats"
UBJSON = (GOLDEN / "boosted-xgboost-3.2.0.ubj").read_bytes()
JSON = (GOLDEN / "boosted-xgboost-3.2.0.json").read_bytes()
TEXT = (GOLDEN / "boosted-lightgbm-4.7.0.txt").read_bytes()


def with_trees(count):
    model = json.loads(JSON)
    booster = model["learner"]["gradient_booster"]["model"]
    booster["trees"] = (booster["trees"] * 3)[:count]
    return json.dumps(model).encode()


class TestXgBoost(FormatTests):
    format = XGBOOST
    examples = {  # noqa: RUF012 - as the suite asks
        "ubjson": UBJSON,
        "json": JSON,
        "with spaces": with_trees(3),
        "a name that looks like trees": JSON.replace(b'"feature_names":[]', rb'"feature_names":["\"}]{","\\"]'),
    }

    @pytest.mark.parametrize("data", [UBJSON, JSON], ids=["ubjson", "json"])
    def test_sixteen_trees_are_a_tensor(self, data):
        layout, tensors = lay_out(XGBOOST, data)
        assert list(layout.parameters) == ["trees.000000", "trees.000016"]
        assert [tensors[name].count(b"base_weights") for name in tensors] == [16, 2]
        assert all(value[:1] == b"{" and value[-1:] == b"}" for value in tensors.values())

    def test_more_trees_leave_full_groups_as_they_are(self):
        before, after = (lay_out(XGBOOST, with_trees(count))[1] for count in (33, 49))
        assert list(after) == [*before, "trees.000048"]
        assert [name for name in before if before[name] != after[name]] == ["trees.000032"]

    def test_a_model_without_trees_is_not_split(self):
        for data in (with_trees(0), b'{"learner": {"gradient_booster": {"model": {"weights": [1]}}}}'):
            assert XGBOOST.detect(memoryview(data))
            with pytest.raises(NotSplittable, match="no trees"):
                XGBOOST.parse(memoryview(data))

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (JSON[:9000], "do not end"),
            (UBJSON[:9000], "truncated"),
            (UBJSON.replace(b"[$d#L\0", b"[$d#L\xff", 1), "negative"),
            (UBJSON.replace(b"[$d#L\0", b"[$d#L\x7f", 1), "truncated"),
            (UBJSON.replace(b"[$d#", b"[$?#", 1), "not a type"),
            (UBJSON.replace(b"[$d#L", b"[$d#S", 1), "length"),
            (UBJSON.replace(b"[$d#", b"[$dL", 1), "is not b'#'"),
        ],
    )
    def test_a_damaged_model_is_refused(self, data, message):
        with pytest.raises(FormatError, match=message):
            XGBOOST.parse(memoryview(data))

    def test_values_that_are_nested_deeply_are_not_read(self):
        one = b"[#L" + (1).to_bytes(8, "big")
        deep = UBJSON.replace(b"L" + (12).to_bytes(8, "big") + b"base_weights", b"i\1x" + one * 99, 1)
        with pytest.raises(NotSplittable, match="nested"):
            XGBOOST.parse(memoryview(deep))

    @pytest.mark.parametrize("data", [b"", b"{", b'{"weight_map": {}}', UBJSON[1:], b'{"learner": []}'])
    def test_other_files_are_not_xgboost(self, data):
        assert not XGBOOST.detect(memoryview(data))


class TestLightGbm(FormatTests):
    format = LIGHTGBM
    examples = {"a model": TEXT}  # noqa: RUF012 - as the suite asks

    def test_sixteen_trees_are_a_tensor(self):
        layout, tensors = lay_out(LIGHTGBM, TEXT)
        assert list(layout.parameters) == ["trees.000000", "trees.000016"]
        assert [value.count(b"leaf_value=") for value in tensors.values()] == [16, 2]
        assert tensors["trees.000016"].startswith(b"Tree=16\n")
        assert LIGHTGBM.facts(layout)["rest"].count(b"Tree=") == 0

    @pytest.mark.parametrize(
        ("data", "message"),
        [(TEXT[:5000], "do not end"), (TEXT.replace(b"Tree=3\n", b"Tree=4\n"), "tree 4.*follows 3 trees")],
    )
    def test_a_damaged_model_is_refused(self, data, message):
        with pytest.raises(FormatError, match=message):
            LIGHTGBM.parse(memoryview(data))

    def test_a_model_without_trees_is_not_split(self):
        with pytest.raises(NotSplittable, match="no trees"):
            LIGHTGBM.parse(memoryview(b"tree\nversion=v4\n\nend of trees\n"))

    def test_other_files_are_not_lightgbm(self):
        assert not LIGHTGBM.detect(memoryview(b"tree\nversions"))


def test_large_models_are_not_split():
    class Large:
        nbytes = (64 << 20) + 1

        def __getitem__(self, key):
            return memoryview(TEXT)[key]

    for file_format in (XGBOOST, LIGHTGBM):
        with pytest.raises(NotSplittable, match="64 MiB"):
            file_format.parse(Large())
