import errno
import fcntl
import hashlib
import os
from contextlib import suppress
from pathlib import Path

import pytest

from git_theta_ext.errors import StoreError
from git_theta_ext.git import attribute_lines
from git_theta_ext.git.hooks import PRE_PUSH, _write
from git_theta_ext.merging.record import Record
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.operations.filter.pending import change_pending
from git_theta_ext.operations.merge.driver import _write as write_merged
from git_theta_ext.operations.merge.record import note_merge
from git_theta_ext.store.temporary import clear_stale
from git_theta_ext.transfer.complete import Complete, write_complete
from git_theta_ext.transfer.heads import save_head
from git_theta_ext.util.files import (
    replace_content,
    replacing,
    reporting_os_errors,
    reporting_read_errors,
    sha256_of,
    temporaries_beside,
    temporary_beside,
    total_bytes,
    writing_output,
)


class Full:
    """Stands in for a method of ``Path``: the disk is full, after some bytes were written."""

    def __init__(self, name):
        self.real = getattr(Path, name)

    def __get__(self, path, _):
        def fail(*arguments):
            if self.real is WRITE_BYTES:
                self.real(path, arguments[0][:1])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

        return fail


WRITE_BYTES = Path.write_bytes
STEPS = ("write_bytes", "replace")


def names(folder):
    return {path.name for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("step", STEPS)
def test_a_file_that_cannot_be_replaced_is_unchanged_and_nothing_is_left_beside_it(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(Path, step, Full(step))
    with pytest.raises(OSError, match="No space"):
        replace_content(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == {"file"}


def test_a_file_is_replaced_only_when_the_block_ends(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
        assert names(tmp_path) == {"file", temporary.name}
    assert path.read_bytes() == b"new"
    with suppress(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_bytes(b"newer")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == {"file"}


def write_hook(folder):
    with suppress(Exception):
        _write(folder / "pre-push", PRE_PUSH.script())


def write_pending(folder):
    class Repository:
        git_dir = folder

    with suppress(StoreError):
        change_pending(Repository, add=["a"])


def write_note(folder):
    write_complete(folder, "url", Complete(("tip",)))


def write_head(folder):
    with suppress(OSError):
        save_head(folder, "url", "name", b"head")


def write_attributes(folder):
    with suppress(StoreError):
        attribute_lines.write(folder / ".gitattributes", "*.npz filter=theta")


def write_record(folder):
    class Repository:
        git_dir = folder

    step = Record("path", None, ("1", "2"), ("3", "4"), Rules.only("ours"))
    with suppress(StoreError):
        note_merge(Repository, ("3", "4"), {"path": (step, {"path": "5"})})


def write_result(folder):
    with suppress(StoreError):
        write_merged(folder / ".merge_file_x", b"manifest")


def write_page(folder):
    with suppress(OSError), writing_output(folder / "page.html") as page:
        page.write_bytes(b"page")


KINDS = [
    write_hook,
    write_pending,
    write_note,
    write_head,
    write_attributes,
    write_record,
    write_result,
    write_page,
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("write", KINDS)
def test_a_replacement_that_fails_leaves_no_file_behind(tmp_path, monkeypatch, step, write):
    monkeypatch.setattr(Path, step, Full(step))
    write(tmp_path)
    assert names(tmp_path) <= {"pending.lock"}


@pytest.mark.parametrize("write", KINDS)
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, monkeypatch, write):
    left = []

    def killed(temporary, _):
        temporary.rename(tmp_path / "left")
        left.append(temporary)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        write(tmp_path)
    (old,) = left
    (tmp_path / "left").rename(old)
    os.utime(old, (1, 1))
    write(tmp_path)
    if write is write_head:  # a directory that the next pack or checkout clears
        assert old.parent == tmp_path / "tmp"
        clear_stale(tmp_path)
    assert not old.exists()
    assert not [name for name in names(tmp_path) if "theta-new" in name]


def test_temporary_files_in_use_and_files_of_others_stay(tmp_path):
    other = tmp_path / ".file.0123456789abcdef.theta"
    other.write_bytes(b"a checkpoint")
    with replacing(tmp_path / "one") as temporary:
        temporary.write_bytes(b"1")
        replace_content(tmp_path / "two", b"2")
        assert temporary.read_bytes() == b"1"
    assert names(tmp_path) == {"one", "two", other.name}


def test_a_temporary_file_that_another_process_takes_for_a_leftover_is_made_again(tmp_path, monkeypatch):
    removed = []

    def lock(descriptor, how):
        if not removed:
            (path,) = tmp_path.iterdir()
            path.unlink()
            removed.append(path)
        flock(descriptor, how)

    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", lock)
    replace_content(tmp_path / "file", b"content")
    assert removed
    assert (tmp_path / "file").read_bytes() == b"content"


def test_the_mode_of_a_file_is_kept(tmp_path):
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o640)
    replace_content(path, b"new")
    assert path.stat().st_mode & 0o777 == 0o640


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path):
    with pytest.raises(OSError, match="No such file") as caught, replacing(tmp_path / "no" / "file"):
        pass
    assert caught.value.filename == str(tmp_path / "no" / "file")


def test_output_goes_through_links_and_into_pipes(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with writing_output(tmp_path / "link") as output:
        output.write_bytes(b"1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"1"
    with writing_output(Path(os.devnull)) as output:
        assert output == Path(os.devnull)


def test_names_of_temporary_files_fit_however_long_the_name_is(tmp_path):
    path = tmp_path / ("x" * 255)
    assert len(temporary_beside(path).name) < 255
    temporary_beside(path).touch()
    (tmp_path / f".{'x' * 64}.theta").touch()
    assert len(temporaries_beside(path)) == 1


@pytest.mark.parametrize(
    ("code", "hint"), [(errno.EDQUOT, "free some space"), (errno.EACCES, "check the directory's permissions")]
)
def test_a_file_system_error_names_the_file_and_gives_a_hint(tmp_path, code, hint):
    with (
        pytest.raises(StoreError, match=r"cannot write .*file: it failed") as caught,
        reporting_os_errors(tmp_path / "file"),
    ):
        raise OSError(code, "it failed")
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize(
    ("code", "hint"), [(errno.EIO, "check the disk"), (errno.EACCES, "check the file's permissions")]
)
def test_an_error_of_reading_is_not_said_to_be_one_of_writing(tmp_path, code, hint):
    with (
        pytest.raises(StoreError, match=r"cannot read .*file: it failed") as caught,
        reporting_read_errors(tmp_path / "file"),
    ):
        raise OSError(code, "it failed")
    assert caught.value.hint == hint


def test_a_file_is_named_by_all_of_its_bytes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 2000)
    assert sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_that_are_gone_count_nothing(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert total_bytes([tmp_path / "a", tmp_path / "gone"]) == 5
