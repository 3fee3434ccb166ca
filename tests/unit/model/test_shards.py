import json
from functools import partial

import pytest
from bounds import memory_of

from git_theta_ext.errors import FormatError
from git_theta_ext.model.manifest import Manifest, Parameter, Skeleton
from git_theta_ext.model.model_version import ModelVersion, index_of
from git_theta_ext.model.shard_index import ShardIndex
from git_theta_ext.model.shards import ModelFiles, is_index, model_name, models_of
from git_theta_ext.model.tensor import TensorSpec

A, B = "a" * 64, "b" * 64


def manifest(*names, kind="safetensors"):
    return Manifest(kind, Skeleton(A, 70), {name: Parameter(TensorSpec.of("F32", (2,)), B) for name in names})


def index(weight_map, indent=None, end="", **metadata):
    return ShardIndex.parse(
        (json.dumps({"metadata": metadata, "weight_map": weight_map}, indent=indent) + end).encode()
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("model.safetensors", "model.safetensors"),
        ("run/model-00002-of-00004.safetensors", "run/model.safetensors"),
        ("run/model.safetensors.index.json", "run/model.safetensors"),
        ("pytorch_model-00001-of-00002.bin", "pytorch_model.bin"),
        ("pytorch_model.bin.index.json", "pytorch_model.bin"),
        ("unet.fp16-00001-of-00002.safetensors", "unet.fp16.safetensors"),
        ("unet-00001-of-00002.fp16.safetensors", "unet.fp16.safetensors"),
        ("unet.safetensors.index.fp16.json", "unet.fp16.safetensors"),
        ("model-7-of-9.safetensors", "model-7-of-9.safetensors"),
        ("one-of-00002.safetensors", "one-of-00002.safetensors"),
        ("config.json", "config.json"),
    ],
)
def test_names_of_shards_name_the_model(path, name):
    assert model_name(path) == name
    assert is_index(path) == path.endswith(".json") * (path != "config.json")


def test_files_of_one_directory_belong_together():
    files = [f"{folder}/model-0000{n}-of-00002.safetensors" for folder in ("a", "b") for n in (1, 2)]
    models = models_of([*files, "a/adapter.safetensors"], {"a/model.safetensors.index.json": index({})})
    assert models == [
        ModelFiles("a/adapter.safetensors", ("a/adapter.safetensors",)),
        ModelFiles("a/model.safetensors", tuple(files[:2]), "a/model.safetensors.index.json"),
        ModelFiles("b/model.safetensors", tuple(files[2:])),
    ]
    assert [model.sharded for model in models] == [False, True, True]


def test_what_an_index_or_an_attribute_says_counts_more_than_names():
    indexes = {"m.safetensors.index.json": index({"w": "left.safetensors", "v": "right.safetensors"})}
    files = ["left.safetensors", "right.safetensors", "part-1.pt", "part-2.pt"]
    models = models_of(files, indexes, {"part-1.pt": "part", "part-2.pt": "../part"})
    assert [(model.name, model.shards) for model in models] == [
        ("m.safetensors", ("left.safetensors", "right.safetensors")),
        ("part", ("part-1.pt", "part-2.pt")),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "no weight_map"),
        ('{"weight_map": []}', "no weight_map"),
        ('{"weight_map": {"w": 1}}', "not the name of a file"),
        *((json.dumps({"weight_map": {"w": name}}), "not the name of a file") for name in ("../x", "/etc/x", "a\\b")),
        *(
            (json.dumps({"weight_map": {"w": name}}), "not the name of a file")
            for name in ("", "..", ".git", "a\0", "x" * 256)
        ),
        ('{"weight_map": {"w": "a", "w": "b"}}', "a key twice"),
        ('{"weight_map": {}, "weight_map": {}}', "a key twice"),
        ("{" * 9999, "not an index"),
        ("\ud800", "not an index"),
    ],
)
def test_hostile_indexes_are_refused(text, message):
    with pytest.raises(FormatError, match=message):
        ShardIndex.parse(text.encode("utf-8", "surrogatepass"))


def test_index_of_many_tiny_objects_is_refused_in_bounded_memory():
    text = b'{"weight_map": [' + b"[]," * 300_000 + b"[]]}"

    def parse():
        with pytest.raises(FormatError):
            ShardIndex.parse(text)

    assert memory_of(parse) < 4 * len(text)


def test_unchanged_index_keeps_its_bytes_and_a_moved_one_its_look():
    before = index({"a": "1", "b": "2"}, indent=2, end="\n", total_size=16, note="ü")
    assert before.moved({"b": "2", "a": "1"}, {"total_size": 0}) is before
    text = before.moved({"b": "1", "a": "1", "ab": "2"}, {"total_size": 8, "total_parameters": 2}).text
    written = {"metadata": {"total_size": 24, "note": "ü"}, "weight_map": {"a": "1", "ab": "2", "b": "1"}}
    assert text == json.dumps(written, indent=2) + "\n"


def test_order_of_an_index_that_is_not_sorted_stays():
    before = index({"b": "1", "a": "1"})
    assert list(before.moved({"a": "2", "b": "1", "c": "2"}, {}).weight_map) == ["b", "a", "c"]


def test_version_has_the_parameters_of_all_its_files():
    version = ModelVersion({"1": manifest("b"), "2": manifest("a", "c")})
    assert dict(version.places) == {"b": "1", "a": "2", "c": "2"}
    assert (sorted(version.parameters), version.nbytes, version.elements) == (["a", "b", "c"], 24, 6)


def test_parameter_in_two_files_and_two_formats_are_refused():
    with pytest.raises(FormatError, match="'a' is in both 1 and 2"):
        ModelVersion({"1": manifest("a"), "2": manifest("a")})
    with pytest.raises(FormatError, match="different formats"):
        ModelVersion({"1": manifest("a"), "2": manifest("b", kind="torch")})


def test_index_is_rewritten_for_other_files():
    before = ModelVersion(
        {"r/1": manifest("a"), "r/2": manifest("b")}, "r/i", index({"a": "1", "b": "2"}, total_size=99)
    )
    after = ModelVersion({"r/1": manifest("a", "b"), "r/2": manifest("c")})
    made = index_of(before, after)
    assert dict(made.weight_map) == {"a": "1", "b": "1", "c": "2"}
    assert made.metadata["total_size"] == 107
    assert index_of(after, before) is None


def test_reading_an_index_takes_linear_memory():
    text = json.dumps(
        {"weight_map": {f"model.layers.{n}.weight": "model-00001-of-00002.safetensors" for n in range(9999)}}
    )
    assert memory_of(partial(ShardIndex.parse, text.encode())) < 24 * len(text)
