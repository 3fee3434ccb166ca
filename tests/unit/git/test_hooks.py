from __future__ import annotations

import os
import subprocess

import pytest

from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.hooks import HOOK_LINE, ensure_hooks, hook_present, hook_script, place_hook, remove_hook
from git_theta_ext.git.repository import Repository


def git(path, *args, check=True):
    return subprocess.run(["git", *args], cwd=path, capture_output=True, text=True, check=check)


@pytest.fixture
def top(tmp_path):
    git(tmp_path, "init", "-q", "top")
    return tmp_path / "top"


def test_the_hook_is_written_executable_and_only_once(top):
    repo = Repository.discover(top)
    assert not hook_present(repo)
    path = top / ".git/hooks/pre-push"
    assert [(change.what, change.where) for change in ensure_hooks(repo)] == [("wrote", str(path))]
    assert path.read_bytes() == hook_script()
    assert os.access(path, os.X_OK)
    assert hook_present(repo)
    assert ensure_hooks(repo) == []


def test_a_missing_hooks_folder_is_made(top):
    for path in (top / ".git/hooks").iterdir():
        path.unlink()
    (top / ".git/hooks").rmdir()
    assert place_hook(Repository.discover(top))


def test_all_work_trees_share_one_hook(top, tmp_path):
    git(top, "commit", "--allow-empty", "-qm", "one")
    git(top, "worktree", "add", "-q", str(tmp_path / "linked"))
    place_hook(Repository.discover(tmp_path / "linked"))
    assert (top / ".git/hooks/pre-push").exists()


def test_a_foreign_hook_is_kept_and_the_line_to_add_is_told(top):
    path = top / ".git/hooks/pre-push"
    path.write_text("#!/bin/sh\ngit lfs pre-push\n")
    changes = place_hook(Repository.discover(top))
    assert [(change.what, change.value) for change in changes] == [("todo", HOOK_LINE)]
    assert "lfs" in path.read_text()


def test_a_foreign_hook_with_our_line_counts_as_installed_and_a_comment_does_not(top):
    path = top / ".git/hooks/pre-push"
    path.write_text("#!/bin/sh\n# git theta hook pre-push\n")
    assert not hook_present(Repository.discover(top))
    path.write_text(f"#!/bin/sh\n{HOOK_LINE}\n")
    assert hook_present(Repository.discover(top))
    assert place_hook(Repository.discover(top)) == []


def test_nothing_is_written_into_a_hooks_folder_that_the_user_chose(top, tmp_path):
    git(top, "config", "core.hooksPath", str(tmp_path / "shared-hooks"))
    changes = place_hook(Repository.discover(top))
    assert [change.what for change in changes] == ["todo"]
    assert not (tmp_path / "shared-hooks").exists()


def test_only_an_untouched_hook_of_ours_is_removed(top):
    repo = Repository.discover(top)
    place_hook(repo)
    path = top / ".git/hooks/pre-push"
    path.write_bytes(hook_script() + b"echo mine\n")
    assert remove_hook(repo) == []
    path.write_bytes(hook_script())
    assert [change.what for change in remove_hook(repo)] == ["removed"]
    assert not path.exists()


def test_a_hook_that_cannot_be_written_is_an_error_with_its_path(top):
    for path in (top / ".git/hooks").iterdir():
        path.unlink()
    (top / ".git/hooks").rmdir()
    (top / ".git/hooks").write_text("in the way")
    with pytest.raises(RepositoryError, match="hooks/pre-push"):
        place_hook(Repository.discover(top))


def test_the_hook_stops_the_push_where_the_program_is_gone(top, tmp_path):
    place_hook(Repository.discover(top))
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sh").symlink_to("/bin/sh")
    done = subprocess.run(
        [top / ".git/hooks/pre-push", "origin", "x"],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "git-theta is not on PATH" in done.stderr


@pytest.mark.parametrize("code", [0, 1])
def test_the_line_to_add_leaves_the_other_hook_its_input_and_fails_closed(tmp_path, code):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git").write_text(f'#!/bin/sh\ncat >"{tmp_path}/ours"\nexit {code}\n')
    (tools / "git").chmod(0o755)
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\n{HOOK_LINE}\ncat >"{tmp_path}/theirs"\n')
    hook.chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([hook, "origin", "x"], input=b"refs\n", env={**os.environ, "PATH": path}, check=False)
    assert done.returncode == code
    assert (tmp_path / "ours").read_bytes() == b"refs\n"
    assert (tmp_path / "theirs").exists() == (code == 0)
    assert code or (tmp_path / "theirs").read_bytes() == b"refs\n"
