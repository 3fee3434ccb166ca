"""The index of a sharded model and the record of a resolution follow what is resolved."""

import json
import re
from fnmatch import fnmatchcase

import pytest

from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.shard_index import ShardIndex
from git_theta_ext.model.tensor import Digest, TensorSpec
from git_theta_ext.operations.merge.conflicted_model import patterns_for
from git_theta_ext.operations.merge.index_resolution import listed_after


def manifest(**sizes):
    parameters = {n: Parameter(TensorSpec.of("F32", (size,)), Digest("0" * 64)) for n, size in sizes.items()}
    return Manifest("safetensors", Skeleton(Digest("0" * 64), 9), parameters)


def test_an_index_loses_and_gains_parameters_with_their_sizes():
    weight_map = {"a": "1", "b": "1", "c": "2"}
    index = ShardIndex.parse(json.dumps({"metadata": {"total_size": 40}, "weight_map": weight_map}).encode())
    before = {"run/1": manifest(a=2, b=3)}
    found = listed_after(index, before, {"run/1": manifest(b=4, d=1)})
    assert dict(found.weight_map) == {"b": "1", "c": "2", "d": "1"}
    assert found.metadata["total_size"] == 40
    assert listed_after(index, before, before) is index
    assert listed_after(index, before, {"run/1": manifest(a=2)}).metadata["total_size"] == 28


@pytest.mark.parametrize(
    ("names", "others", "count"),
    [
        ([f"model.layers.{n}.w" for n in range(3)], ["model.embed"], 1),
        ([f"model.layers.{n}.w" for n in range(3)], ["model.layers.3.w", "lm_head"], 3),
        ([f"model.layers.{n}.{w}" for n in range(3) for w in "abc"], ["model.layers.30.a"], 3),
        (["a", "b.c"], ["b.d"], 2),
        (["a[0].x", "a[0].y"], ["a.x"], 1),
        (["model"], ["model.x"], 1),
    ],
)
def test_few_patterns_match_the_names_and_no_others(names, others, count):
    patterns = patterns_for(names, others)
    assert len(patterns) == count
    for name in [*names, *others]:
        assert any(fnmatchcase(name, pattern) for pattern in patterns) == (name in names)


def test_the_record_of_one_shard_stays_short():
    names = [f"model.layers.{n}.{m}.weight" for n in range(40) for m in ("q", "k", "v", "up", "down")]
    patterns = patterns_for(names[:100], names[100:])
    assert len(patterns) == 20
    assert all(re.fullmatch(r"model\.layers\.\d+\.\*", pattern) for pattern in patterns)
