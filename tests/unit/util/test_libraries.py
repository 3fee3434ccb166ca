import sys

import pytest

from git_theta_ext.errors import LibraryError
from git_theta_ext.util.libraries import install_command, is_installed, require


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("made_up", None)


def test_an_installed_library_is_imported(folder):
    (folder / "made_up.py").write_text("")
    assert is_installed("made_up")
    require("made_up", "this")
    assert "made_up" in sys.modules


def test_an_absent_library_is_an_error_with_the_command_that_installs_it():
    assert not is_installed("made_up")
    with pytest.raises(LibraryError, match="this needs made_up, which is not installed") as caught:
        require("made_up", "this")
    assert caught.value.hint == "pip install made_up"


@pytest.mark.parametrize("code", ["import absent_too", "raise OSError('no libx.so')", "from sys import no_such_name"])
def test_a_library_that_cannot_be_imported_is_not_taken_for_absent(folder, code):
    (folder / "made_up.py").write_text(code)
    with pytest.raises(LibraryError, match="this needs made_up, which cannot be imported: ") as caught:
        require("made_up", "this")
    assert "force-reinstall" in caught.value.hint


@pytest.mark.parametrize(
    ("file", "extra", "command"),
    [
        ("pipx_metadata.json", "merge", "pipx inject git-theta-ext 'git-theta-ext[merge]'"),
        ("uv-receipt.toml", "merge", "uv tool install 'git-theta-ext[all]'"),
        ("uv-receipt.toml", "cluster", "uv tool install 'git-theta-ext[all,cluster]'"),
        ("pyvenv.cfg", "merge", "pip install 'git-theta-ext[merge]'"),
    ],
)
def test_an_extra_is_added_by_what_installed_the_package(tmp_path, monkeypatch, file, extra, command):
    (tmp_path / file).touch()
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    assert install_command(extra) == command
