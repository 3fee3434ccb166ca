"""Which files a user names, and which ref of a remote the current branch is pushed to."""

from __future__ import annotations

import os
import subprocess

import pytest

from git_theta_ext.errors import UsageError
from git_theta_ext.git.repository import Repository
from git_theta_ext.git.revisions import pushed_ref
from git_theta_ext.operations.sync.lock_paths import Selection, select


@pytest.fixture
def top(tmp_path, monkeypatch):
    """Work in a folder of a repository with some files, of which those that end with .pt are checkpoints."""
    top = tmp_path / "top"
    for path in ("a.pt", "sub/b.pt", "sub/c.pt", "sub/note.txt", "sub/ignored.bin"):
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(path)
    (top / ".gitattributes").write_text("*.pt filter=theta\n")
    (top / ".gitignore").write_text("*.bin\n")
    git(top, "init", "-q", "-b", "main")
    git(top, "-c", "filter.theta.clean=cat", "add", "-A")
    (top / "sub/b.pt").unlink()
    (tmp_path / "linked").symlink_to(top / "sub")
    monkeypatch.chdir(top / "sub")
    return top


def git(folder, *args):
    subprocess.run(["git", *args], cwd=folder, check=True)


def chosen(*specs, present=True):
    return select(Repository.discover(), specs, present=present)


def test_files_are_relative_to_the_current_folder(top):
    assert chosen("c.pt", "../a.pt", "./c.pt") == Selection(("sub/c.pt", "a.pt"), ())
    assert chosen(str(top / "a.pt"), "b.pt") == Selection(("a.pt", "sub/b.pt"), ())  # b.pt is in the index only
    assert chosen("note.txt", "ignored.bin").named == ("sub/note.txt", "sub/ignored.bin")


def test_of_folders_and_patterns_only_checkpoints_count(top):
    assert chosen(".") == Selection((), ("sub/b.pt", "sub/c.pt"))
    assert chosen("../*.pt", ":/sub").matched == ("a.pt", "sub/b.pt", "sub/c.pt")
    (top / "other").mkdir()
    (top / "other/x").write_text("x")
    (top / "other/y").write_text("y")
    git(top, "add", "other")
    with pytest.raises(UsageError, match="has no checkpoints"):
        chosen("../other")


def test_a_path_through_a_link_is_that_of_the_file(top, monkeypatch):
    monkeypatch.chdir(top.parent / "linked")
    assert chosen("c.pt").named == ("sub/c.pt",)


@pytest.mark.parametrize("spec", ["../../outside", "../.git/config", "/etc/passwd", "gone.pt"])
def test_what_is_no_file_of_the_work_tree_is_refused(top, spec):
    with pytest.raises(UsageError):
        chosen(spec)


def test_a_file_that_is_gone_can_still_be_unlocked(top):
    assert chosen("gone.pt", present=False).named == ("sub/gone.pt",)


def test_a_name_that_is_not_utf_8_is_refused(top):
    (top / os.fsdecode(b"\xff.pt")).write_text("x")
    with pytest.raises(UsageError, match="UTF-8"):
        chosen(os.fsdecode(b"../\xff.pt"))


def test_the_ref_is_that_of_the_push(top):
    git(top, "remote", "add", "origin", ".")
    assert pushed_ref(Repository.discover(), "origin") == "refs/heads/main"  # without a commit, too
    git(top, "-c", "filter.theta.clean=cat", "commit", "-qm", "x")
    git(top, "config", "branch.main.remote", "origin")
    git(top, "config", "branch.main.merge", "refs/heads/up")
    assert pushed_ref(Repository.discover(), "origin") == "refs/heads/up"
    assert pushed_ref(Repository.discover(), "other") == "refs/heads/main"
    git(top, "config", "push.default", "current")
    assert pushed_ref(Repository.discover(), "origin") == "refs/heads/main"
    git(top, "config", "remote.origin.push", "refs/heads/*:refs/heads/mine/*")
    assert pushed_ref(Repository.discover(), "origin") == "refs/heads/mine/main"
    git(top, "checkout", "-q", "--detach")
    assert pushed_ref(Repository.discover(), "origin") is None
