from __future__ import annotations

import os
import subprocess

import pytest

from git_theta_ext.errors import RepositoryError
from git_theta_ext.git.hooks import (
    HOOKS,
    PRE_PUSH,
    PREPARE_COMMIT_MSG,
    ensure_hooks,
    hook_present,
    place_hooks,
    remove_hooks,
)
from git_theta_ext.git.repository import Repository


def git(path, *args, check=True):
    return subprocess.run(["git", *args], cwd=path, capture_output=True, text=True, check=check)


@pytest.fixture
def top(tmp_path):
    git(tmp_path, "init", "-q", "top")
    return tmp_path / "top"


each_hook = pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.event)


def at(top, hook):
    return top / ".git/hooks" / hook.event


def test_hooks_are_written_executable_and_only_once(top):
    repo = Repository.discover(top)
    assert not hook_present(repo)
    assert [(change.what, change.where) for change in ensure_hooks(repo)] == [
        ("wrote", str(at(top, hook))) for hook in HOOKS
    ]
    for hook in HOOKS:
        assert at(top, hook).read_bytes() == hook.script()
        assert os.access(at(top, hook), os.X_OK)
        assert hook_present(repo, hook)
    assert ensure_hooks(repo) == []


def test_a_missing_hooks_folder_is_made(top):
    for path in (top / ".git/hooks").iterdir():
        path.unlink()
    (top / ".git/hooks").rmdir()
    assert place_hooks(Repository.discover(top))


def test_all_work_trees_share_the_hooks(top, tmp_path):
    git(top, "commit", "--allow-empty", "-qm", "one")
    git(top, "worktree", "add", "-q", str(tmp_path / "linked"))
    place_hooks(Repository.discover(tmp_path / "linked"))
    assert all(at(top, hook).exists() for hook in HOOKS)


@each_hook
def test_a_foreign_hook_is_kept_and_the_line_to_add_is_told(top, hook):
    at(top, hook).write_text("#!/bin/sh\ngit lfs something\n")
    changes = place_hooks(Repository.discover(top))
    assert [(c.what, c.value, c.without) for c in changes if c.where == str(at(top, hook))] == [
        ("todo" if hook.needed else "option", hook.line, hook.without)
    ]
    assert "lfs" in at(top, hook).read_text()


@each_hook
def test_a_foreign_hook_with_our_line_counts_as_installed_and_a_comment_does_not(top, hook):
    at(top, hook).write_text(f"#!/bin/sh\n# git theta hook {hook.event}\n")
    assert not hook_present(Repository.discover(top), hook)
    at(top, hook).write_text(f"#!/bin/sh\n{hook.line}\n")
    assert hook_present(Repository.discover(top), hook)
    assert str(at(top, hook)) not in {change.where for change in place_hooks(Repository.discover(top))}


def test_nothing_is_written_into_a_hooks_folder_that_the_user_chose(top, tmp_path):
    git(top, "config", "core.hooksPath", str(tmp_path / "shared-hooks"))
    changes = place_hooks(Repository.discover(top))
    assert [change.what for change in changes] == ["todo", "option"]
    assert not (tmp_path / "shared-hooks").exists()


@each_hook
def test_only_an_untouched_hook_of_ours_is_removed(top, hook):
    repo = Repository.discover(top)
    place_hooks(repo)
    at(top, hook).write_bytes(hook.script() + b"echo mine\n")
    assert str(at(top, hook)) not in {change.where for change in remove_hooks(repo)}
    at(top, hook).write_bytes(hook.script())
    assert [(change.what, change.where) for change in remove_hooks(repo)] == [("removed", str(at(top, hook)))]
    assert not at(top, hook).exists()


def test_a_hook_that_cannot_be_written_is_an_error_with_its_path(top):
    for path in (top / ".git/hooks").iterdir():
        path.unlink()
    (top / ".git/hooks").rmdir()
    (top / ".git/hooks").write_text("in the way")
    with pytest.raises(RepositoryError, match="hooks/pre-push"):
        place_hooks(Repository.discover(top))


def test_the_hook_stops_the_push_where_the_program_is_gone(top, tmp_path):
    place_hooks(Repository.discover(top))
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
    hook.write_text(f'#!/bin/sh\n{PRE_PUSH.line}\ncat >"{tmp_path}/theirs"\n')
    hook.chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([hook, "origin", "x"], input=b"refs\n", env={**os.environ, "PATH": path}, check=False)
    assert done.returncode == code
    assert (tmp_path / "ours").read_bytes() == b"refs\n"
    assert (tmp_path / "theirs").exists() == (code == 0)
    assert code or (tmp_path / "theirs").read_bytes() == b"refs\n"


@pytest.mark.parametrize("merging", [False, True])
def test_the_line_to_add_calls_us_only_while_something_is_noted(top, tmp_path, merging):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git-theta").write_text(f'#!/bin/sh\necho "$@" >"{tmp_path}/called"\n')
    (tools / "git-theta").chmod(0o755)
    at(top, PREPARE_COMMIT_MSG).write_text(f'#!/bin/sh\n{PREPARE_COMMIT_MSG.line}\ntouch "{tmp_path}/theirs"\n')
    at(top, PREPARE_COMMIT_MSG).chmod(0o755)
    if merging:
        (top / ".git/theta").mkdir()
        (top / ".git/theta/merge.json").write_text("{}")
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        ["git", "commit", "-qm", "x", "--allow-empty"], cwd=top, env={**os.environ, "PATH": path}, check=True
    )
    assert (tmp_path / "called").exists() == merging
    assert (tmp_path / "theirs").exists()
    if merging:
        assert (tmp_path / "called").read_text() == "hook prepare-commit-msg .git/COMMIT_EDITMSG message\n"
