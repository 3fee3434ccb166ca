"""Plug-ins are found by the name of their module, those of other packages by their entry points."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import git_theta_ext
from git_theta_ext import registry
from git_theta_ext.errors import PluginError
from git_theta_ext.interfaces import RemoteContext

GROUPS = get_args(registry.Group)
SAFETENSORS = "git_theta_plugins.formats.safetensors:FORMAT"


@pytest.fixture
def others(monkeypatch, tmp_path):
    """Return a function that installs entry points of other packages for one test."""
    monkeypatch.syspath_prepend(tmp_path)
    for function in (registry._find, registry._entry_points):
        function.cache_clear()

    def install(package, group, points, **modules):
        folder = tmp_path / f"{package}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        (folder / "entry_points.txt").write_text(f"[git_theta_ext.{group}]\n{lines}")
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(text)

    yield install
    for function in (registry._find, registry._entry_points):
        function.cache_clear()
    for name in [name for name in sys.modules if name.startswith("of_others")]:
        del sys.modules[name]


def test_every_module_of_a_group_is_a_plugin_of_its_name_with_a_summary() -> None:
    for group in GROUPS:
        summaries = registry.summaries(group)
        assert registry.built_in(group)
        for name in registry.built_in(group):
            assert getattr(registry._find(group, name), "name", name) == name
            assert 10 < len(summaries[name]) < 120, name


def test_nothing_else_lists_the_built_in_plugins() -> None:
    setup = configparser.ConfigParser()
    setup.read(Path(git_theta_ext.__file__).parents[1] / "setup.cfg")
    assert list(setup["options.entry_points"]) == ["console_scripts"]


def test_listing_plugins_imports_none() -> None:
    code = (
        "import sys\nfrom git_theta_ext import registry\n"
        f"[registry.summaries(group) for group in {GROUPS}]\n"
        "print([name for name in sys.modules if name.startswith(('git_theta_plugins.', 'numpy', 'torch'))"
        " and name.count('.') != 1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_built_in_plugin_is_found_without_reading_entry_points(others, monkeypatch) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: pytest.fail("entry points are read"))
    assert registry.find_merge("ties").name == "ties"


def test_plugins_are_listed_without_parsing_entry_points_that_no_package_has(others, monkeypatch) -> None:
    others("zoo", "merges", {"zebra": "of_others:METHOD"})
    monkeypatch.setattr("sys.path", [sys.path[0]])  # without packages that this environment may have
    with monkeypatch.context() as patch:
        patch.setattr("importlib.metadata.entry_points", lambda **_: pytest.fail("entry points are read"))
        assert registry.names("encodings") == registry.built_in("encodings")
    assert registry.names("merges") == [*registry.built_in("merges"), "zebra"]


def test_a_plugin_of_another_package_is_found_and_listed_behind_the_built_in_ones(others) -> None:
    others(
        "zoo",
        "merges",
        {"zebra": "of_others:METHOD"},
        of_others='"""Stripes."""\nclass METHOD:\n    name = "zebra"\n',
    )
    assert registry.find_merge("zebra").name == "zebra"
    assert registry.names("merges") == [*registry.built_in("merges"), "zebra"]
    assert registry.summaries("merges")["zebra"] == "Stripes."


def test_a_built_in_name_cannot_be_taken_over(others) -> None:
    others("zoo", "formats", {"npz": SAFETENSORS})
    assert registry.find_format("npz").name == "npz"
    assert registry.names("formats") == registry.built_in("formats")


def test_two_packages_with_a_plugin_of_one_name_are_an_error_that_names_both(others) -> None:
    others("zoo", "formats", {"zebra": SAFETENSORS})
    others("farm", "formats", {"zebra": "of_others:FORMAT"})
    with pytest.raises(PluginError, match=r"both (zoo and farm|farm and zoo) register the format 'zebra'"):
        registry.find_format("zebra")


def test_a_plugin_that_cannot_be_loaded_is_an_error_that_names_its_package(others) -> None:
    others("zoo", "merges", {"zebra": "of_others_broken:METHOD"}, of_others_broken="1 / 0")
    with pytest.raises(PluginError, match="cannot load merge method 'zebra' of zoo: division by zero"):
        registry.find_merge("zebra")


def test_a_plugin_bears_the_name_that_it_is_registered_by(others) -> None:
    others("zoo", "formats", {"zebra": SAFETENSORS})
    with pytest.raises(PluginError, match="format 'zebra' has the name 'safetensors'"):
        registry.find_format("zebra")


@pytest.mark.parametrize("name", ["part", "gathered"])
def test_an_encoding_cannot_have_a_name_that_packs_use_for_entries_without_bytes(others, name: str) -> None:
    others("zoo", "encodings", {name: "git_theta_plugins.encodings.delta:ENCODING"})
    with pytest.raises(PluginError, match=f"zoo registers the encoding '{name}'") as caught:
        registry.find_encoding(name)
    assert "pip uninstall zoo" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["nosuch", "_zip", "__init__", "ties.extra", "../ties", "", "zebr\u00e4"])
def test_an_unknown_name_is_an_error_that_lists_what_there_is(name: str) -> None:
    with pytest.raises(PluginError, match="unknown merge method") as caught:
        registry.find_merge(name)
    assert "average, " in caught.value.hint


@pytest.mark.parametrize("size", [9, 70_000])
def test_formats_of_other_packages_are_asked_whatever_the_size_of_a_file(others, size: int) -> None:
    text = """
class FORMAT:
    name = "zebra"

    @staticmethod
    def detect(data):
        return data[:5] == b"zebra"
"""
    others("zoo", "formats", {"zebra": "of_others_formats:FORMAT"}, of_others_formats=text)
    assert registry.detect_format(memoryview(b"zebra".ljust(size, b"."))).name == "zebra"
    assert registry.detect_format(memoryview(b"zebu".ljust(size, b"."))).name == "opaque"


def test_a_remote_is_found_by_the_schemes_that_it_declares(others, monkeypatch) -> None:
    text = """
from git_theta_ext.interfaces import RemoteType

REMOTE = RemoteType(("pigeon", "owl"), lambda url, options, context: url)
"""
    others("zoo", "remotes", {"birds": "of_others_remotes:REMOTE"}, of_others_remotes=text)
    assert registry.remote_of_scheme("owl").open("owl://loft", {}, RemoteContext()) == "owl://loft"
    assert registry.remote_of_scheme("s3") is registry.find_remote("object_store")
    with pytest.raises(PluginError, match="no installed type of remote opens cat:// URLs") as caught:
        registry.remote_of_scheme("cat")
    assert "birds" in caught.value.hint
