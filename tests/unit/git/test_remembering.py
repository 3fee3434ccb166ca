"""A repository that asks git the same question once."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from git_theta_ext.git.objects import ObjectInfo, named_objects
from git_theta_ext.git.remembering import RememberingRepository
from git_theta_ext.git.repository import Repository
from git_theta_ext.git.revisions import head_of

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = ("-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "--allow-empty", "-m", "m")


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "a b").write_bytes(b"text")
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    subprocess.run(["git", *COMMIT], cwd=tmp_path, check=True)
    return Repository.discover(tmp_path)


def test_answers_are_remembered_by_question(repo: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    assert repo.config.values
    remembering = RememberingRepository.of(repo)
    assert remembering.theta_dir == repo.theta_dir
    attributes = ("check-attr", "-z", "--stdin", "filter")
    answers = [remembering.run(*attributes, input=path) for path in (b"a\0", b"b\0")]
    assert answers[0] != answers[1]
    monkeypatch.setattr(subprocess, "run", None)  # no other process can be started
    assert [remembering.run(*attributes, input=path) for path in (b"a\0", b"b\0")] == answers
    assert remembering.config == repo.config


def test_what_may_change_is_asked_again(repo: Repository) -> None:
    remembering = RememberingRepository.of(repo)
    before = head_of(remembering)
    subprocess.run(["git", *COMMIT], cwd=repo.folder, check=True)
    assert head_of(remembering) == head_of(repo) != before


def test_objects_are_found_by_name(repo: Repository) -> None:
    names = ["HEAD:a b", "HEAD:a", "HEAD:a 1", "none:a b", "HEAD^{tree}"]
    blob, *absent, tree = named_objects(repo, names)
    assert blob is not None
    assert blob[1] == ObjectInfo("blob", 4)
    assert absent == [None, None, None]
    assert tree is not None
    assert tree[1].kind == "tree"
