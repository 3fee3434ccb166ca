"""A repository that asks git the same question once."""

from __future__ import annotations

import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from git_theta_ext.git.changed_paths import changed_by_both
from git_theta_ext.git.kept_process import KeptProcess
from git_theta_ext.git.objects import ObjectInfo, named_objects, object_infos, read_objects
from git_theta_ext.git.path_attributes import marker_size, merged_by_driver, model_names
from git_theta_ext.git.remembering import RememberingRepository
from git_theta_ext.git.repository import Repository
from git_theta_ext.git.revisions import find_object, head_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMIT = ("-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "--allow-empty", "-m", "m")


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "a b").write_bytes(b"text")
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    subprocess.run(["git", *COMMIT], cwd=tmp_path, check=True)
    return Repository.discover(tmp_path)


@pytest.fixture
def remembering(repo: Repository) -> Iterator[RememberingRepository]:
    assert repo.config.values
    with closing(RememberingRepository.of(repo)) as remembering:
        yield remembering


@pytest.fixture
def sides(repo: Repository) -> list[str]:
    """Return the common ancestor of two branches, and both of them."""

    def commit(files: dict[str, str]) -> str:
        for path, text in files.items():
            (repo.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (repo.folder / path).write_text(text)
        for command in (("add", "."), COMMIT):
            subprocess.run(["git", *command], cwd=repo.folder, check=True)
        return repo.run("rev-parse", "HEAD").decode().strip()

    base = commit({"d/e f/g": "0", "d/ours": "0", "d/same": "0", "top": "0", "e/theirs": "0"})
    ours = commit({"d/e f/g": "1", "d/ours": "1", "d/same": "1", "top": "1", "new/a": "1", "new/b": "1"})
    subprocess.run(["git", "reset", "-q", "--hard", base], cwd=repo.folder, check=True)
    theirs = commit({"d/e f/g": "2", "d/same": "1", "top": "2", "e/theirs": "2", "new/a": "2"})
    return [base, ours, theirs]


def test_answers_are_remembered_by_question(
    repo: Repository, remembering: RememberingRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert remembering.theta_dir == repo.theta_dir
    attributes = ("check-attr", "-z", "--stdin", "filter")
    answers = [remembering.run(*attributes, input=path) for path in (b"a\0", b"b\0")]
    assert answers[0] != answers[1]
    monkeypatch.setattr(subprocess, "run", None)  # no other process can be started
    assert [remembering.run(*attributes, input=path) for path in (b"a\0", b"b\0")] == answers
    assert remembering.config == repo.config


def test_what_may_change_is_asked_again(repo: Repository, remembering: RememberingRepository) -> None:
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


def test_one_process_answers_for_many_objects(
    repo: Repository, remembering: RememberingRepository, sides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = {entry.oid for rev in sides for entry in repo.entries(rev)}
    expected = object_infos(repo, blobs), dict(read_objects(repo, blobs))
    directories = {(rev, path): repo.directory(rev, path) for rev in sides for path in ("", "d", "d/e f", "new", "top")}
    absent = {rev: repo.entry(rev, ".thetamerge") for rev in sides}
    deep = repo.entry(sides[0], "d/e f/g")
    assert deep is not None
    assert head_of(remembering) == sides[2]
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda words, **how: started.append(words[1:3]) or popen(words, **how))
    for _ in range(2):
        assert (object_infos(remembering, blobs), dict(read_objects(remembering, blobs))) == expected
    assert {place: remembering.directory(*place) for place in directories} == directories
    assert {rev: remembering.entry(rev, ".thetamerge") for rev in sides} == absent
    assert remembering.entry(sides[0], "d/e f/g") == deep
    assert started == [["cat-file", "--batch"]]


def test_listed_directories_answer_what_paths_are(
    repo: Repository, remembering: RememberingRepository, sides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ["top", "d", "d/e f/g", "new/b", "none", "top/none", "d/none", "x:y"]
    other = ["", "./top", "d/", "d/../top", "/top", ".."]

    def found(asked: Repository, paths: list[str]) -> object:
        names = [f"{rev}:{path}" for rev in sides for path in paths]
        return named_objects(asked, names), [find_object(asked, name) for name in names]

    before = found(remembering, other)
    assert found(remembering, plain) == found(repo, plain)
    listed = [repo.directory(rev, "d") for rev in sides]
    assert remembering.directories(sides, "") == [repo.directory(rev, "") for rev in sides]
    assert remembering.directories(sides, "d") == listed
    assert found(remembering, plain) == found(repo, plain)
    assert found(remembering, other) == before
    monkeypatch.setattr(KeptProcess, "ask", None)  # git cannot be asked
    assert named_objects(remembering, [f"{sides[0]}:none", f"{sides[1]}:d/none"]) == [None, None]
    assert find_object(remembering, f"{sides[2]}:d/e f/g") == repo.entry(sides[2], "d/e f/g").oid  # type: ignore[union-attr]


def test_reader_that_is_left_early_is_not_used_again(remembering: RememberingRepository, sides: list[str]) -> None:
    blobs = [entry.oid for entry in remembering.entries(sides[0])]
    first, *others = read_objects(remembering, blobs)
    reading = read_objects(remembering, blobs)
    assert next(reading) == first
    assert dict(read_objects(remembering, blobs)) == dict([first, *others])  # another one while this one is read
    reading.close()
    assert dict(read_objects(remembering, blobs)) == dict([first, *others])


def test_attributes_of_many_paths_are_asked_at_once(
    repo: Repository, remembering: RememberingRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["* merge=theta", "*1 theta-model=whole", "b* !merge conflict-marker-size=9", "c conflict-marker-size=no"]
    (repo.folder / ".gitattributes").write_text("\n".join(lines))
    paths = [f"{name} {number}" for name in "ab" for number in range(600)]
    assert model_names(remembering.run, paths) == model_names(repo.run, paths)
    assert marker_size(repo.run, "c") == 7
    monkeypatch.setattr(subprocess, "Popen", None)
    assert merged_by_driver(remembering.run, paths) == paths[:600]
    assert [marker_size(remembering.run, path) for path in ("a 1", "b 1", "c")] == [7, 9, 7]


def test_files_that_both_sides_changed_differently(
    repo: Repository, remembering: RememberingRepository, sides: list[str]
) -> None:
    def ids(path: str) -> tuple[str | None, ...]:
        entries = [repo.entry(rev, path) for rev in sides]
        return tuple(entry and entry.oid for entry in entries)

    expected = {path: ids(path) for path in ("d/e f/g", "new/a", "top")}
    assert expected["new/a"][0] is None
    for asked in (repo, remembering):
        assert dict(changed_by_both(asked, *sides)) == expected
