"""Whether a package may have entry points is found without parsing them."""

import importlib.metadata
import sys
import zipfile

import pytest

from git_theta_ext.util.entry_points import may_have


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The only directory in which packages are looked for."""
    monkeypatch.setattr("sys.path", [str(tmp_path / "gone"), str(tmp_path)])
    return tmp_path


@pytest.mark.parametrize("folder", ["zoo-1.dist-info", "zoo.egg-info", "Zoo.DIST-INFO"])
def test_a_package_that_names_the_group_is_found(place, folder):
    (place / "empty-1.dist-info").mkdir()
    assert not may_have("zoo.animals")
    (place / folder).mkdir()
    (place / folder / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo\nVersion: 1\n")
    (place / folder / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: zoo\nVersion: 1\n")
    (place / folder / "entry_points.txt").write_text("[zoo.animals]\nzebra = stripes:ZEBRA\n")
    assert may_have("zoo.animals")
    assert not may_have("zoo.plants")
    assert list(importlib.metadata.entry_points(group="zoo.animals"))


class Finder:
    """Finds packages where nothing else does."""

    @staticmethod
    def find_spec(*_):
        return None

    @staticmethod
    def find_distributions(*_):
        return []


def test_what_is_not_searched_may_have_any(place, monkeypatch):
    with monkeypatch.context() as patch:
        with zipfile.ZipFile(place / "packages.zip", "w") as archive:
            archive.writestr("zoo-1.dist-info/entry_points.txt", "[zoo.animals]\nzebra = stripes:ZEBRA\n")
        patch.syspath_prepend(place / "packages.zip")
        assert may_have("zoo.animals")
    with monkeypatch.context() as patch:
        patch.setattr("sys.meta_path", [Finder, *sys.meta_path])
        assert may_have("zoo.animals")
    assert not may_have("zoo.animals")
