import errno
import hashlib
from contextlib import suppress
from pathlib import Path

import pytest

from git_theta_ext.errors import StoreError
from git_theta_ext.git.hooks import PRE_PUSH, _write
from git_theta_ext.operations.filter.pending import change_pending, read_pending
from git_theta_ext.transfer.complete import Complete, read_complete, write_complete
from git_theta_ext.transfer.remote_index import save_head
from git_theta_ext.util.files import (
    replace_content,
    replacing,
    reporting_os_errors,
    sha256_of,
    temporaries_beside,
    temporary_beside,
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
        assert temporaries_beside(path) == [temporary]
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
    assert read_pending(Repository) == []


def write_note(folder):
    write_complete(folder, "url", Complete(("tip",)))
    assert read_complete(folder, "url", "") == Complete()


def write_head(folder):
    with suppress(OSError):
        save_head(folder, "name", b"head")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("write", [write_hook, write_pending, write_note, write_head])
def test_a_replacement_that_fails_leaves_no_file_behind(tmp_path, monkeypatch, step, write):
    monkeypatch.setattr(Path, step, Full(step))
    write(tmp_path)
    assert names(tmp_path) <= {"pending.lock"}


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


def test_a_file_is_named_by_all_of_its_bytes(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 2000)
    assert sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()
