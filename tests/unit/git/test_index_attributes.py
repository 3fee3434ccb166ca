"""Indexes and configurations get the merge driver with the pattern of their checkpoints, and lose it with that."""

import pytest

from git_theta_ext.git.index_attributes import add_index, remove_index

LINE = "*.safetensors.index*.json merge=theta\n"


def test_the_indexes_of_many_shards_get_the_merge_driver():
    assert add_index("", "*.safetensors") == LINE
    assert add_index("a text", "my run/*.bin") == 'a text\n"my run/*.bin.index*.json" merge=theta\n'
    assert add_index("a text\r\n", "*.safetensors") == "a text\r\n*.safetensors.index*.json merge=theta\r\n"


def test_the_configurations_of_adapters_get_the_merge_driver_once():
    added = "adapter_config.json merge=theta\n"
    assert add_index(add_index("", "adapter_model*.safetensors"), "adapter_model.bin") == added
    assert add_index("", "/runs/*/adapter_model.safetensors") == f"/runs/*/{added}"
    assert remove_index(added, "adapter_model.bin") == ""


def test_the_index_of_distributed_checkpoints_gets_it_too():
    assert add_index("", "*.distcp") == ".metadata merge=theta\n"
    assert add_index("", "/runs/**/*.distcp") == "/runs/**/.metadata merge=theta\n"
    assert remove_index("ck/.metadata merge=theta\n", "ck/*.distcp") == ""


@pytest.mark.parametrize("pattern", ["model.safetensors", "*.npz", "run/**", "*.safetensors.txt"])
def test_other_files_have_no_index(pattern):
    assert add_index("a text\n", pattern) == "a text\n"


@pytest.mark.parametrize(
    "text", [LINE, "*.safetensors.index*.json -merge\n", "*.safetensors.index*.json merge=union\n"]
)
def test_a_line_that_there_is_stays(text):
    assert add_index(text, "*.safetensors") == text


def test_only_what_was_added_is_removed():
    assert remove_index("a text\n" + LINE, "*.safetensors") == "a text\n"
    assert remove_index(LINE, "*.bin") == LINE
    other = "*.safetensors.index*.json merge=theta -diff\n"
    assert remove_index(other, "*.safetensors") == other
