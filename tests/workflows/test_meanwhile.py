"""Other programs that save a file, check out or hold the index while checkpoints are written, and sudden ends."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from helpers import MODEL, Repo, model
from reports import Reports

from git_theta_ext.errors import ChangedError, KeptError
from git_theta_ext.git.repository import Repository
from git_theta_ext.operations.filter import written_files as written_files_module
from git_theta_ext.operations.filter.pending import change_pending, read_pending
from git_theta_ext.operations.filter.populate import Wanted, manifest_at, populate_wanted
from git_theta_ext.operations.filter.written_files import WrittenFiles
from git_theta_ext.operations.staging.stage import Rewrite, rewrite_and_stage
from git_theta_ext.operations.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from git_theta_ext.errors import ThetaError

SKIPPING = {"GIT_THETA_SKIP_SMUDGE": "1"}


class Writing:
    """A process that is about to write the checkpoints of tag ``one``, whose manifests git has just written."""

    def __init__(self, repo: Repo) -> None:
        repo.git("checkout", "--quiet", "one", env={**os.environ, **SKIPPING})
        self.work = repo
        self.workspace = Workspace.discover(Reports(), repo.path)
        self.repo, self.store = self.workspace.repo, self.workspace.store

    def run(self, meanwhile: Callable[[], object] = lambda: None) -> list[ThetaError]:
        """Write, and do something else in the middle of it."""
        todo = [meanwhile]

        def advance(_: int) -> None:
            if todo:
                todo.pop()()

        manifest = manifest_at(self.repo, MODEL)
        assert manifest is not None
        return populate_wanted(self.workspace, {MODEL: Wanted(manifest)}, lambda _: None, advance)


@pytest.fixture
def writing(two: Repo) -> Iterator[Writing]:
    made = Writing(two)
    yield made
    made.store.close()


@pytest.mark.parametrize("careful", [True, False], ids=["renamed", "written in place"])
def test_what_is_saved_meanwhile_is_kept_and_told(writing: Writing, careful: bool) -> None:
    place = writing.work.path / MODEL

    def save() -> None:
        other = place.with_name("saving")
        other.write_bytes(model(3))
        other.replace(place) if careful else (place.write_bytes(model(3)), other.unlink())

    (failure,) = writing.run(save)
    assert isinstance(failure, KeptError)
    assert failure.path == MODEL
    assert writing.work.read() == model(3)
    assert writing.work.git("status", "--porcelain") == f" M {MODEL}"
    assert read_pending(writing.repo) == []
    assert "Changed" in writing.work.git("theta", "status")


def test_a_file_removed_meanwhile_stays_away(writing: Writing) -> None:
    assert writing.run((writing.work.path / MODEL).unlink) == []
    assert not (writing.work.path / MODEL).exists()


def test_of_two_checkouts_at_a_time_the_later_one_wins(writing: Writing) -> None:
    assert writing.run(lambda: writing.work.git("checkout", "--quiet", "two")) == []
    assert writing.work.problems(MODEL, model(2)) == []


def test_two_commands_may_write_the_same_checkpoint(writing: Writing) -> None:
    assert writing.run(lambda: writing.work.git("theta", "checkout")) == []
    assert writing.work.problems(MODEL, model(1)) == []


@pytest.mark.parametrize("first", [True, False])
def test_a_file_saved_while_it_is_rewritten_is_kept(two: Repo, first: bool) -> None:
    workspace = Workspace.discover(Reports(), two.path)
    two.write_model("other.safetensors", seed=5)
    two.commit("other")
    (_, manifest) = workspace.repo.manifests("one")[MODEL]
    rewrites = [Rewrite(path, (two.path / path).lstat(), manifest) for path in (MODEL, "other.safetensors")]
    todo = [lambda: two.write_model(rewrites[not first].path, seed=4)]

    def advance(_: int) -> None:
        if todo and (first or two.read() == model(1)):
            todo.pop()()

    with workspace, pytest.raises(ChangedError):
        rewrite_and_stage(workspace, rewrites, [], advance)
    assert two.read(rewrites[not first].path) == model(4)
    assert two.read(rewrites[first].path) == model(2 if not first else 5)
    assert two.git("diff", "--cached", "--name-only") == ""
    assert [path.name for path in two.path.glob(".*theta")] == []


def test_a_file_that_is_open_for_writing_is_left_pending(writing: Writing) -> None:
    with (writing.work.path / MODEL).open("r+b"):
        (failure,) = writing.run()
        if not failure:
            pytest.skip("the system does not tell who writes")
    assert "has it open for writing" in failure.message
    assert read_pending(writing.repo) == [MODEL]
    writing.work.git("theta", "checkout")
    assert writing.work.problems(MODEL, model(1)) == []


class TestFileThatTheIndexWasNotToldOf:
    @pytest.fixture
    def stopped(self, writing: Writing, monkeypatch: pytest.MonkeyPatch) -> Repo:
        """Return a repository in which a process was killed between writing a file and telling the index."""

        def end(*_: object, **__: object) -> None:
            raise RuntimeError("killed")

        monkeypatch.setattr(WrittenFiles, "finish", end)
        with pytest.raises(RuntimeError, match="killed"):
            writing.run()
        assert writing.work.read() == model(1)
        assert writing.work.git("status", "--porcelain") == f" M {MODEL}"
        assert read_pending(writing.repo) == [MODEL]
        return writing.work

    @pytest.mark.parametrize("command", ["checkout", "status", "add"])
    @pytest.mark.parametrize("known", [True, False], ids=["cached", "read"])
    def test_the_next_command_tells(self, stopped: Repo, command: str, known: bool) -> None:
        if not known:
            for index in (stopped.path / ".git/theta").glob("index.sqlite3*"):
                index.unlink()
        stopped.git("theta", command, *([".gitattributes"] if command == "add" else []), check=False)
        assert stopped.problems(MODEL, model(1)) == []
        assert not (stopped.path / ".git/theta/pending").exists()

    def test_so_does_the_next_filter(self, stopped: Repo) -> None:
        stopped.write_model("other.safetensors", seed=3)
        stopped.git("add", "other.safetensors")
        assert stopped.git("status", "--porcelain") == "A  other.safetensors"

    def test_another_file_is_not_taken_for_it(self, stopped: Repo) -> None:
        stopped.write_model(seed=4)
        stopped.git("theta", "status")
        assert stopped.git("status", "--porcelain") == f" M {MODEL}"
        assert not (stopped.path / ".git/theta/pending").exists()


def test_an_index_that_is_locked_for_long_is_reported_later(writing: Writing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written_files_module, "_PATIENCE", 0.1)
    lock = writing.work.path / ".git/index.lock"
    (failure,) = writing.run(lock.touch)
    assert "index.lock" in failure.message
    assert writing.work.read() == model(1)
    assert read_pending(writing.repo) == [MODEL]
    lock.unlink()
    writing.work.git("theta", "status")
    assert writing.work.problems(MODEL, model(1)) == []


def test_files_are_reported_to_the_index_as_they_are_done(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{n}.safetensors" for n in range(3)]
    for seed in (1, 2):
        for name in names:
            repo.write_model(name, seed)
        repo.commit(str(seed))
    repo.git("checkout", "--quiet", "HEAD~", env={**os.environ, **SKIPPING})
    monkeypatch.setattr(written_files_module, "_BATCH_SECONDS", 0.0)
    monkeypatch.setattr(WrittenFiles, "finish", lambda *_, **__: (set(), []))
    with Workspace.discover(Reports(), repo.path) as workspace:
        wanted = {name: Wanted(manifest_at(workspace.repo, name) or b"") for name in names}
        assert populate_wanted(workspace, wanted, lambda _: None) == []
    for name in names:
        assert repo.problems(name, model(1)) == []


def test_the_list_of_what_is_pending_is_shared(two: Repo) -> None:
    repo = Repository.discover(two.path)
    change_pending(repo, add=["a", "b"])
    change_pending(repo, add=["b", "c"], drop={"a"})
    assert read_pending(repo) == ["b", "c"]
    change_pending(repo, drop={"b", "c", "d"})
    assert not (two.path / ".git/theta/pending").exists()
    shutil.rmtree(two.path / ".git/theta")
    change_pending(repo, add=["a"])
    assert read_pending(repo) == ["a"]
