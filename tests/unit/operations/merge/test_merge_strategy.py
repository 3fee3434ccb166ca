from __future__ import annotations

import pytest
from helpers import ATTENTION, EMBEDDING, MODEL, fork, model
from reports import Reports

from git_theta_ext.errors import MergeError, RepositoryError
from git_theta_ext.git import merge_tree as octopus
from git_theta_ext.git.entries import TreeEntry
from git_theta_ext.git.merge_tree import combine, common_ancestor, renames, with_files
from git_theta_ext.git.repository import Repository
from git_theta_ext.operations.merge import merged_trees
from git_theta_ext.operations.merge import strategy as merge_strategy
from git_theta_ext.operations.merge.candidates import checkpoints
from git_theta_ext.operations.merge.merged_trees import trees_of_merge
from git_theta_ext.operations.workspace import Workspace

OTHER = "other.safetensors"


def third(repo):
    fork(repo)
    repo.switch("-b", "third", "base")
    repo.write_model(seed=1, changed={ATTENTION[0]: 7})
    repo.write(b"third", "third.txt")
    repo.commit("third")
    repo.switch("main")


@pytest.fixture
def here(with_history, monkeypatch):
    """The repository of ``forked`` with a third branch, which changed both attention 0 and a file of its own."""
    monkeypatch.chdir(with_history(third).path)
    return Repository.discover()


def merge(here, *heads, words=()):
    base = here.run("rev-parse", "base").decode().strip()
    with Workspace(here, Reports()) as workspace:
        return merge_strategy.run(workspace, [base], ("HEAD", *heads), words).code


class TestCombine:
    def test_files_of_all_branches_are_in_the_tree_and_nothing_else_changes(self, here, repo):
        found = combine(here, ("HEAD", "side", "third"))
        assert (found.clean, found.stages, found.messages) == (True, (), ())
        assert {entry.path for entry in here.entries(found.tree)} == {".gitattributes", MODEL, "third.txt"}
        assert repo.problems(MODEL, model(1, {ATTENTION[0]: 2})) == []

    def test_result_is_the_same_for_everybody(self, here, monkeypatch):
        found = combine(here, ("HEAD", "side", "third"))
        monkeypatch.delenv("GIT_AUTHOR_NAME")
        monkeypatch.delenv("GIT_COMMITTER_NAME")
        monkeypatch.setenv("GIT_AUTHOR_EMAIL", "")
        assert combine(here, ("HEAD", "side", "third")) == found

    def test_an_older_git_is_reported_apart(self, here, monkeypatch):
        monkeypatch.setattr(octopus, "git_version", lambda: (2, 37))
        with pytest.raises(MergeError, match=r"git 2\.38"):
            combine(here, ("HEAD", "side", "third"))

    def test_conflict_has_its_stages_and_what_git_says(self, here, repo):
        for name in ("side", "main"):
            repo.switch(name)
            repo.write(name.encode(), "näme.txt")
            repo.commit(name)
        found = combine(here, ("HEAD", "third", "side"))
        assert [(entry.path, entry.stage) for entry in found.stages] == [("näme.txt", 2), ("näme.txt", 3)]
        assert found.messages == ("CONFLICT (add/add): Merge conflict in näme.txt",)
        with pytest.raises(MergeError, match=r"side conflicts with the branches before it in näme\.txt") as caught:
            combine(here, ("HEAD", "side", "third"))
        assert "git merge side" in caught.value.hint

    def test_settings_of_the_work_tree_hold(self, here, repo):
        repo.git("config", "extensions.worktreeConfig", "true")
        repo.git("config", "--worktree", "merge.conflictStyle", "diff3")
        repo.write(b"main", "third.txt")
        repo.commit("main")
        tree = combine(here, ("HEAD", "third")).tree
        assert "|||||||" in here.run("cat-file", "blob", f"{tree}:third.txt").decode()

    @pytest.mark.parametrize("name", ["side", "main", "--help", "no such branch"])
    def test_name_that_git_takes_for_another_commit_is_not_used(self, here, repo, monkeypatch, name):
        repo.switch("side")
        repo.write(b"side", "third.txt")
        oid = repo.commit("conflict")
        repo.switch("main")
        monkeypatch.setenv(f"GITHEAD_{oid}", name)
        tree = combine(here, ("HEAD", "third", oid)).tree
        text = here.run("cat-file", "blob", f"{tree}:third.txt").decode()
        lines = text.splitlines()
        assert (lines[0], lines[-1]) == ("<<<<<<< HEAD", f">>>>>>> {'side' if name == 'side' else oid}")


class TestCommonAncestor:
    def test_one_is_itself_and_none_is_none(self, here):
        assert common_ancestor(here, ["base"]) == "base"
        assert common_ancestor(here, []) is None

    def test_several_are_merged(self, here):
        found = common_ancestor(here, ["side", "third"])
        (_, manifest), (_, side), (_, third) = (here.manifests(rev)[MODEL] for rev in (found, "side", "third"))
        assert manifest.parameters[ATTENTION[0]] == third.parameters[ATTENTION[0]]
        assert manifest.parameters[ATTENTION[1]] == side.parameters[ATTENTION[1]]

    def test_before_git_2_38_one_is_itself_and_several_are_refused(self, here, monkeypatch):
        monkeypatch.setattr(octopus, "git_version", lambda: (2, 37))
        assert common_ancestor(here, ["base"]) == "base"
        with pytest.raises(MergeError, match=r"git 2[.]38"):
            common_ancestor(here, ["side", "third"])

    def test_before_git_2_38_a_driver_of_a_criss_cross_merge_does_without_trees(self, here, repo, monkeypatch):
        heads = [
            repo.git("commit-tree", "-p", one, "-p", other, "-m", "merge", f"{one}^{{tree}}")
            for one, other in (("main", "third"), ("third", "main"))
        ]
        assert len(list(trees_of_merge(here, heads))) == 2
        monkeypatch.setattr(merged_trees, "git_version", lambda: (2, 37))
        assert list(trees_of_merge(here, heads)) == []
        assert len(list(trees_of_merge(here, heads[:1] * 2))) == 1


class TestTrees:
    def test_renames_are_old_and_new_path(self, here, repo):
        repo.git("mv", MODEL, "a b\tc.safetensors")
        repo.commit("moved")
        assert renames(here, "base", "HEAD") == {MODEL: "a b\tc.safetensors"}

    def test_files_are_replaced(self, here):
        (entry,) = [entry for entry in here.entries("side") if entry.path == MODEL]
        found = with_files(here, here.run("rev-parse", "HEAD^{tree}").decode().strip(), [entry])
        assert here.manifests(found) == here.manifests("side")

    def test_contents_that_are_not_there_are_an_error(self, here):
        with pytest.raises(RepositoryError):
            with_files(here, "HEAD", [TreeEntry(MODEL, "1" * 40, "100644")])


class TestCheckpoints:
    def test_those_that_several_changed_are_found_with_all_versions(self, here):
        tree = combine(here, ("HEAD", "side", "third")).tree
        (found,) = checkpoints(here, "base", ("HEAD", "side", "third"), tree)
        oid = {rev: here.manifests(rev)[MODEL][0] for rev in ("base", "HEAD", "side", "third")}
        assert found.merged.path == MODEL
        assert found.base.oid == oid["base"]
        assert [side.oid for side in found.sides] == [oid["HEAD"], oid["side"], oid["third"]]

    def test_those_that_one_changed_or_several_alike_are_git_s(self, here, repo):
        repo.git("branch", "again", "side")
        assert checkpoints(here, "base", ("base", "side", "again"), "side") == []

    def test_other_files_are_git_s(self, here, repo):
        for name in ("side", "third"):
            repo.switch(name)
            repo.write(name.encode(), "notes.txt")
            repo.commit(name)
        found = checkpoints(here, "base", ("main", "side", "third"), "side")
        assert [each.merged.path for each in found] == [MODEL]


class TestRun:
    def test_more_sides_than_a_manifest_can_hold_are_refused(self, here):
        with pytest.raises(MergeError, match="65 sides exceed the limit of 64"):
            merge(here, *["side"] * 64)

    def test_a_store_that_fails_changes_nothing(self, here, repo, monkeypatch):
        def broken(*_, **__):
            raise MergeError("no space left")

        monkeypatch.setattr(merge_strategy, "merge", broken)
        with pytest.raises(MergeError, match="no space left"):
            merge(here, "side", "third")
        assert repo.problems(MODEL, model(1, {ATTENTION[0]: 2})) == []

    def test_nothing_is_computed_where_the_work_tree_is_in_the_way(self, here, repo, monkeypatch):
        repo.write_model(seed=1, changed={EMBEDDING: 9})
        monkeypatch.setattr(merge_strategy, "merge", None)
        with pytest.raises(MergeError, match=MODEL) as caught:
            merge(here, "side", "third")
        assert "git stash" in caught.value.hint

    def test_several_checkpoints_are_merged(self, here, repo):
        for name, seed in (("side", 3), ("third", 4)):
            repo.switch(name)
            repo.write_model(OTHER, 5, {ATTENTION[seed - 3]: seed} if name == "side" else None)
            repo.commit(name)
        repo.switch("main")
        assert merge(here, "side", "third", words=("method=theirs2",)) == 0
        assert repo.git("status", "--porcelain").splitlines() == [f"M  {MODEL}", f"A  {OTHER}", "A  third.txt"]
        assert repo.read() == model(1, {ATTENTION[0]: 7, ATTENTION[1]: 3})

    def test_stages_are_those_of_the_ancestor_ours_and_the_first_other_that_differs(self, here, repo):
        assert merge(here, "side", "third", words=("method=conflict",)) == merge_strategy.CONFLICTS
        stages = {entry.stage: entry.oid for entry in here.entries(None) if entry.path == MODEL}
        assert stages == {
            stage: here.manifests(rev)[MODEL][0] for stage, rev in ((1, "base"), (2, "main"), (3, "side"))
        }
