"""``git_theta_ext.interfaces`` has the names that it says it has, each from where it says."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

from git_theta_ext import interfaces


def test_every_name_comes_from_the_module_that_type_checkers_see() -> None:
    tree = ast.parse(Path(interfaces.__file__).read_text())
    homes = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("git_theta_ext")
        for alias in node.names
    }
    assert sorted(homes) == sorted(interfaces.__all__)
    assert {name: f"git_theta_ext.{module}" for name, module in interfaces._MODULES.items()} == homes
    for name, home in homes.items():
        interfaces.__dict__.pop(name, None)
        assert getattr(interfaces, name) is getattr(import_module(home), name), name


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Any_'"):
        interfaces.Any_  # noqa: B018 - looking is what is tested
