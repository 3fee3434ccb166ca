"""Expressions in rank_pattern and alpha_pattern match as they do in PEFT, in bounded time."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_theta_ext.errors import MergeError
from git_theta_ext.merging.planning.module_patterns import ModulePatterns

MODULES = [
    "l",
    "model.l",
    "model.layers.1.q_proj",
    "model.layers.11.q_proj",
    "encoder.layers.1.q_proj",
    "model.layers.1.mlp.up_proj",
    "text_model.q_projection",
]
SUPPORTED = [
    "l",
    "q_proj",
    "^model.layers.1.q_proj",
    r"layers\.1\.q_proj",
    ".*layers.1.*",
    r".*\.layers\.(0|1)\.q_proj",
    r"^model\.layers\.\d+\..*",
    r"(?:encoder|model)\.layers\.[0-9]\.\w+",
    "q_proj|up_proj",
    "(mlp.)?up_proj$",
    r".+?q_proj.*",
    "",
]


def peft(keys, module):
    """PEFT's rule."""
    return next((key for key in keys if re.match(rf"(.*\.)?({key})$", module)), None)


@pytest.mark.parametrize("key", SUPPORTED)
def test_one_expression_matches_as_in_peft(key):
    for module in MODULES:
        assert ModulePatterns({key: 1}).find(module) == peft([key], module), module


@given(st.lists(st.sampled_from(SUPPORTED), unique=True), st.sampled_from(MODULES))
def test_the_first_of_several_counts(keys, module):
    assert ModulePatterns(dict.fromkeys(keys, 1)).find(module) == peft(keys, module)


@pytest.mark.parametrize("key", ["(a+)+", "(?=a)", r"(a)\1", "a{2,}", "[^a]", "(a", "a)", "a*" * 150, "(a|b)" * 9, "*"])
def test_what_is_not_supported_is_refused(key):
    with pytest.raises(MergeError, match="not supported"):
        ModulePatterns({key: 1}).find("module")


def test_the_time_of_many_names_is_linear():
    names = [f"model.layers.{n}.mlp.experts.{n % 256}.up_proj" for n in range(20_000)]
    patterns = ModulePatterns({name: n for n, name in enumerate(names)} | {".*a.*a.*a.*a.*b": 0})
    started = time.process_time()
    assert [patterns.find(name) for name in names] == names
    assert time.process_time() - started < 5
    assert ModulePatterns({".*a.*a.*a.*a.*b": 0}).find("a" * 5000) is None
