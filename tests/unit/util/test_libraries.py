import sys

import pytest

from git_theta_ext.errors import LibraryError
from git_theta_ext.util.libraries import absent, is_installed, require


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


def test_a_library_of_an_extra_is_installed_with_the_extra():
    assert absent("torch", "this").hint.startswith("pip install 'git-theta-ext[merge]'")
    assert absent("git", "this").hint == "pip install 'git-theta-ext[notebook]'"  # GitPython
