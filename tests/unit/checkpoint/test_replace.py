import pytest

from git_theta_ext.checkpoint import replace
from git_theta_ext.checkpoint.replace import replace_file


@pytest.fixture(params=["exchange", "rename"])
def way(request, monkeypatch):
    if request.param == "rename":
        monkeypatch.setattr(replace, "_renameat2", lambda: None)


def test_the_new_file_takes_the_place_of_the_old(tmp_path, way):
    new, path = tmp_path / "new", tmp_path / "path"
    new.write_text("new")
    path.write_text("old")
    inode = new.stat().st_ino
    replace_file(new, path)
    assert path.read_text() == "new"
    assert path.stat().st_ino == inode
    assert not new.exists()


def test_there_need_be_no_old_file(tmp_path, way):
    (tmp_path / "new").write_text("new")
    replace_file(tmp_path / "new", tmp_path / "path")
    assert (tmp_path / "path").read_text() == "new"


def test_when_it_cannot_be_done_both_are_as_they_were(tmp_path, way):
    (tmp_path / "new").write_text("new")
    with pytest.raises(OSError, match="No such file"):
        replace_file(tmp_path / "new", tmp_path / "missing" / "path")
    assert (tmp_path / "new").read_text() == "new"


def test_a_folder_in_the_place_is_left_alone(tmp_path, way):
    (tmp_path / "new").write_text("new")
    (tmp_path / "path").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_file(tmp_path / "new", tmp_path / "path")
    assert (tmp_path / "path").is_dir()
    assert (tmp_path / "new").read_text() == "new"
