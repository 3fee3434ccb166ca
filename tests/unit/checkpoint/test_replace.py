import errno
import mmap
import os

import pytest

from git_theta_ext.checkpoint import replace, unfinished
from git_theta_ext.checkpoint.clean import clean
from git_theta_ext.checkpoint.replace import Expected, being_written, replace_file
from git_theta_ext.checkpoint.unfinished import Unfinished, clear_leftovers
from git_theta_ext.store.store import Store


@pytest.fixture(params=["exchange", "links", "names"])
def way(request, monkeypatch):
    """Replace by exchange, by links where the system cannot exchange names, or where it knows no links either."""
    if request.param != "exchange":
        monkeypatch.setattr(replace, "_renameat2", lambda: None)
    if request.param == "names":

        def refuse(*_):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(replace.os, "link", refuse)
    return request.param


@pytest.fixture
def files(tmp_path):
    new, path = tmp_path / "new", tmp_path / "path"
    new.write_text("new")
    path.write_text("old")
    return new, path


def save(path, text):
    """Save a file as careful programs do."""
    other = path.with_name("saving")
    other.write_text(text)
    other.replace(path)


def meanwhile(monkeypatch, *acts):
    """Do things right before files get other names."""
    todo = list(acts)
    rename = replace._rename

    def renamed(*args):
        if todo:
            todo.pop(0)()
        return rename(*args)

    monkeypatch.setattr(replace, "_rename", renamed)


def test_the_new_file_takes_the_place_of_the_old(files, way):
    new, path = files
    inode = new.stat().st_ino
    assert replace_file(new, path, Expected.at(path))
    assert path.read_text() == "new"
    assert path.stat().st_ino == inode
    assert [file.name for file in path.parent.iterdir()] == ["path"]


def test_there_need_be_no_old_file(tmp_path, way):
    (tmp_path / "new").write_text("new")
    assert replace_file(tmp_path / "new", tmp_path / "path", Expected(None))
    assert (tmp_path / "path").read_text() == "new"


def test_a_file_where_none_was_is_kept(files, way, monkeypatch):
    new, path = files
    assert not replace_file(new, path, Expected(None))
    path.unlink()
    meanwhile(monkeypatch, lambda: save(path, "saved"))
    assert not replace_file(new, path, Expected(None))
    assert path.read_text() == "saved"


def test_when_it_cannot_be_done_both_are_as_they_were(tmp_path, way):
    (tmp_path / "new").write_text("new")
    with pytest.raises(OSError, match="No such file"):
        replace_file(tmp_path / "new", tmp_path / "missing" / "path", Expected(None))
    assert (tmp_path / "new").read_text() == "new"


def test_a_folder_in_the_place_is_left_alone(tmp_path, way):
    (tmp_path / "new").write_text("new")
    (tmp_path / "path").mkdir()
    assert not replace_file(tmp_path / "new", tmp_path / "path", Expected.at(tmp_path / "path"))
    assert (tmp_path / "path").is_dir()
    assert (tmp_path / "new").read_text() == "new"


@pytest.mark.parametrize("moment", ["before", "at"])
@pytest.mark.parametrize("how", ["saved", "written", "removed"])
def test_what_another_program_did_meanwhile_counts(files, way, monkeypatch, moment, how):
    new, path = files
    expected = Expected(path.lstat(), b"old")

    def act():
        if how == "saved":
            save(path, "saved")
        elif how == "written":
            times = path.stat()
            path.write_text("own")  # as long, and dated as the file was
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        else:
            path.unlink()

    if moment == "before":
        act()
    elif way == "exchange":
        meanwhile(monkeypatch, act)
    else:
        look = Expected.holds
        monkeypatch.setattr(Expected, "holds", lambda self, at: (look(self, at), at == path and act())[0])
    assert not replace_file(new, path, expected)
    assert not path.exists() if how == "removed" else path.read_text() == {"saved": "saved", "written": "own"}[how]
    assert {file.name for file in path.parent.iterdir()} <= {"path", "new"}


@pytest.mark.parametrize("times", [2, 3, 4])
def test_of_several_that_are_saved_the_last_stays(files, monkeypatch, times):
    new, path = files
    meanwhile(monkeypatch, *[lambda n=n: save(path, f"saved {n}") for n in range(times)])
    assert not replace_file(new, path, Expected.at(path))
    assert path.read_text() == f"saved {times - 1}"
    assert [file.name for file in path.parent.iterdir()] == ["path"]


def test_a_file_saved_and_removed_comes_back(files, monkeypatch):
    new, path = files
    meanwhile(monkeypatch, lambda: save(path, "saved"), path.unlink)
    assert not replace_file(new, path, Expected.at(path))
    assert path.read_text() == "saved"


@pytest.mark.parametrize("how", ["open", "mapped"])
def test_a_file_that_is_open_for_writing_is_not_replaced(files, how):
    new, path = files
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 3) if how == "mapped" else None
        if mapped:
            file.close()
        with path.open("rb") as reader:
            if not being_written(reader.fileno()):
                pytest.skip("the system does not tell who writes")
        assert not replace_file(new, path, Expected.at(path))
        if mapped:
            mapped.close()
    assert path.read_text() == "old"
    assert replace_file(new, path, Expected.at(path))


class TestUnfinished:
    @pytest.fixture(params=["nameless", "named"])
    def made(self, request, monkeypatch):
        if request.param == "named":
            monkeypatch.setattr(unfinished, "NAMELESS", 0)
        return request.param

    def put(self, path, root, expected):
        with Unfinished(path, root) as file:
            os.write(file.descriptor, b"new")
            names = [entry.name for entry in path.parent.iterdir() if entry not in {path, root}]
            return file.put(expected), names

    def test_nothing_of_it_is_in_the_folder_before_it_is_complete(self, tmp_path, made):
        done, names = self.put(tmp_path / "path", tmp_path / "theta", Expected(None))
        assert done
        assert names == []
        assert (tmp_path / "path").read_bytes() == b"new"
        assert list((tmp_path / "theta/tmp").iterdir()) == []

    def test_what_was_left_in_the_store_a_day_ago_goes_but_no_second_names(self, tmp_path, made):
        folder = tmp_path / "theta/tmp"
        folder.mkdir(parents=True)
        for name in ("left", "model"):
            (folder / name).write_bytes(b"old")
            os.utime(folder / name, (1, 1))
        os.link(folder / "model", folder / "second")
        assert self.put(tmp_path / "path", tmp_path / "theta", Expected(None))[0]
        assert sorted(path.name for path in folder.iterdir()) == ["model", "second"]

    def test_a_store_on_another_file_system_or_mount_is_not_needed(self, tmp_path, made, monkeypatch):
        link = os.link

        def refuse(one, other, **way):
            if "theta" in (one if made == "named" else other).parts:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            link(one, other, **way)

        monkeypatch.setattr(unfinished.os, "link", refuse)
        monkeypatch.setattr(type(tmp_path), "rename", refuse)
        assert self.put(tmp_path / "path", tmp_path / "theta", Expected(None))[0]
        assert sorted(file.name for file in tmp_path.iterdir()) == ["path", "theta"]

    def test_it_has_the_mode_and_the_attributes_of_the_old_file(self, tmp_path, made):
        path = tmp_path / "path"
        path.write_bytes(b"old")
        path.chmod(0o751)
        try:
            os.setxattr(path, "user.note", b"mine")
        except OSError:
            pytest.skip("the file system has no attributes")
        assert self.put(path, tmp_path / "theta", Expected.at(path))[0]
        assert path.stat().st_mode & 0o777 == 0o751
        assert os.getxattr(path, "user.note") == b"mine"


class TestLeftovers:
    NAME = ".path.0123456789abcdef.theta"

    @pytest.fixture
    def manifest(self, tmp_path):
        return clean(memoryview(b"some model"), "path", Store(tmp_path / "theta")).manifest.to_bytes()

    @pytest.mark.parametrize("exchanged", [False, True])
    def test_what_a_killed_process_left_is_removed(self, tmp_path, manifest, exchanged):
        contents = [manifest, b"some model"]
        path, left = tmp_path / "path", tmp_path / self.NAME
        path.write_bytes(contents[exchanged])
        left.write_bytes(contents[not exchanged])
        clear_leftovers(path)
        assert not left.exists()
        assert path.read_bytes() == contents[exchanged]

    def test_what_others_may_have_saved_or_named_stays(self, tmp_path, manifest):
        (tmp_path / "path").write_bytes(b"some model")
        for name in (self.NAME, ".path.mine.theta", ".other.0123456789abcdef.theta"):
            (tmp_path / name).write_bytes(b"other model")
        clear_leftovers(tmp_path / "path")
        assert len(list(tmp_path.glob(".*.theta"))) == 3

    def test_what_is_being_made_stays(self, tmp_path, manifest, monkeypatch):
        monkeypatch.setattr(unfinished, "NAMELESS", 0)

        def refuse(_):
            raise PermissionError

        monkeypatch.setattr(unfinished, "temporary", refuse)  # as where the store is only read
        path = tmp_path / "path"
        path.write_bytes(manifest)
        with Unfinished(path, tmp_path / "theta"):
            (left,) = tmp_path.glob(".*.theta")
            clear_leftovers(path)
            assert left.exists()
        assert not left.exists()
