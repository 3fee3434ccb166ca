"""Merges and versions in Python, as a notebook uses them."""

import json
import os
import subprocess
import sys
import traceback

import ml_dtypes
import numpy as np
import pytest
import torch
from git import Repo
from helpers import ATTENTION, EMBEDDING, MODEL, fork, model
from safetensors.numpy import save as save_arrays
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes

import git_theta_ext
from git_theta_ext.errors import (
    ConfigError,
    FormatError,
    MergeError,
    PluginError,
    RepositoryError,
    UsageError,
)


def state(**values):
    return {name: torch.as_tensor(value) for name, value in values.items()}


def same(found, expected):
    assert list(found) == sorted(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def test_a_repository_of_gitpython_is_taken_for_its_folder(two, tmp_path):
    two.git("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    with Repo(two.path) as opened, Repo(tmp_path / "bare.git") as bare:
        same(git_theta_ext.load(f"one:{MODEL}", repository=opened), load_bytes(model(1)))
        same(git_theta_ext.load(f"one:{MODEL}", repository=bare), load_bytes(model(1)))
    with pytest.raises(UsageError, match=r"a directory or a git\.Repo, not int"):
        git_theta_ext.load(f"one:{MODEL}", repository=7)


def test_a_revision_is_a_text_or_a_commit_of_gitpython(two):
    with Repo(two.path) as opened:
        same(git_theta_ext.load(MODEL, rev=opened.commit("one"), repository=opened), load_bytes(model(1)))
        with git_theta_ext.open(MODEL, rev="one", repository=opened) as lazy:
            same({EMBEDDING: lazy[EMBEDDING]}, {EMBEDDING: load_bytes(model(1))[EMBEDDING]})
    with pytest.raises(UsageError, match=r"a text or a git\.Commit, not int"):
        git_theta_ext.load(MODEL, rev=7, repository=two.path)
    same(git_theta_ext.load(MODEL, repository=two.path), load_bytes(model(2)))


def changed_by_both(repo):
    fork(repo)
    for branch, seed in (("side", 4), ("main", 5)):
        repo.switch(branch)
        own = {ATTENTION[1]: 3} if branch == "side" else {ATTENTION[0]: 2}
        repo.write_model(seed=1, changed=own | {EMBEDDING: seed})
        repo.commit(f"{branch} goes on")


@pytest.fixture
def three(with_history):
    """Return a repository whose branches also changed the embedding, each in its way."""
    return with_history(changed_by_both)


class TestStateDicts:
    def test_without_a_base_all_that_differs_is_merged(self):
        found = git_theta_ext.merge([state(w=[1.0, 2.0], b=[1.0]), state(w=[3.0, 2.0], b=[1.0])])
        same(found, state(w=[2.0, 2.0], b=[1.0]))

    def test_with_a_base_what_one_changed_is_taken(self):
        base, one, other = state(w=[1.0], b=[1.0]), state(w=[2.0], b=[1.0]), state(w=[1.0], b=[5.0])
        same(git_theta_ext.merge([one, other], base=base), state(w=[2.0], b=[5.0]))

    def test_options_weights_and_reserved_words(self):
        base, one, other = state(w=[0.0]), state(w=[1.0]), state(w=[2.0])
        found = git_theta_ext.merge([one, other], "task_arithmetic", base=base, weights=[1, 0.5], lambda_=0.25)
        same(found, state(w=[0.5]))

    def test_golden_values_of_ties(self):
        base, one, other = state(w=[1.0] * 4), state(w=[3.0, 1, 0, 2]), state(w=[2.0, 0, 1, -1])
        found = git_theta_ext.merge([one, other], "ties", base=base, density=1)
        same(found, state(w=[2.5, 0, 0, -1]))

    def test_rules_choose_by_name(self):
        rules = "version: 1\nrules: [{match: 'head.**', method: theirs}]\n"
        models = [{"head.w": torch.tensor([1.0]), "w": torch.tensor([1.0])} for _ in range(2)]
        models[1] = {name: value * 3 for name, value in models[1].items()}
        same(git_theta_ext.merge(models, rules=rules), {"head.w": torch.tensor([3.0]), "w": torch.tensor([2.0])})

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64])
    def test_element_types_and_strides_of_torch(self, dtype):
        one = torch.arange(6).reshape(2, 3).to(dtype).T
        found = git_theta_ext.merge([{"w": one}, {"w": one + 2}])
        same(found, {"w": one + 1})

    @pytest.mark.parametrize("value", [torch.tensor(True), torch.arange(3), torch.zeros(0, 2)], ids=str)
    def test_what_is_equal_comes_back_whatever_it_is(self, value):
        same(git_theta_ext.merge([{"w": value}, {"w": value.clone()}]), {"w": value})

    def test_arrays_of_numpy_merge_as_tensors_do(self):
        one, other = np.array([1.0, 2.0], np.float32), np.array([3.0, 2.0], ">f4")
        found = git_theta_ext.merge([{"w": one}, {"w": other}])
        same(found, {"w": torch.tensor([2.0, 2.0])})
        same(git_theta_ext.merge([{"w": one}, {"w": torch.tensor([3.0, 2.0])}]), found)

    @pytest.mark.parametrize("value", [[1.0], 1.0, None])
    def test_what_is_no_tensor_is_refused_with_its_name(self, value):
        with pytest.raises(UsageError, match=f"parameter 'w' is a {type(value).__name__}, not a tensor"):
            git_theta_ext.merge([{"w": value}, {"w": torch.ones(1)}])

    def test_results_share_memory_with_nothing(self):
        zero = torch.zeros(3)
        models = [{"a": zero, "b": zero, "c": torch.ones(3), "d": torch.ones(3)} for _ in range(2)]
        models[1] = models[1] | {"c": torch.zeros(3), "d": torch.zeros(3)}
        found = git_theta_ext.merge(models)
        for tensor in found.values():
            tensor.add_(1)
        same(found, {"a": zero + 1, "b": zero + 1, "c": zero + 1.5, "d": zero + 1.5})
        assert not zero.any()

    def test_statistics_weigh(self):
        models = [state(w=[0.0, 0.0]), state(w=[1.0, 1.0])]
        found = git_theta_ext.merge(
            models, "fisher", statistics=[{"fisher/w": torch.tensor(f)} for f in ([1.0, 3.0], [3.0, 1.0])]
        )
        same(found, state(w=[0.75, 0.25]))

    def test_a_large_tensor_has_the_bits_of_its_parts(self):
        generator = torch.Generator().manual_seed(1)
        base, one, other = (torch.randn(3, 300_000, generator=generator) for _ in range(3))
        whole = git_theta_ext.merge([{"w": one}, {"w": other}], "dare", base={"w": base}, seed=3)["w"]
        assert torch.equal(
            whole, git_theta_ext.merge([{"w": one}, {"w": other}], "dare", base={"w": base}, seed=3)["w"]
        )
        assert not torch.equal(whole, base)

    def test_conflicts_are_refused_by_name(self):
        with pytest.raises(MergeError, match=r"'ids' .*I64"):
            git_theta_ext.merge([state(ids=[1]), state(ids=[2])])
        with pytest.raises(MergeError, match=r"'w' .*NaN"):
            git_theta_ext.merge([state(w=[1.0]), state(w=[float("nan")])])
        many = [{f"w{n}": torch.tensor([n + side]) for n in range(5)} for side in range(2)]
        with pytest.raises(MergeError, match="and 2 more"):
            git_theta_ext.merge(many)

    @pytest.mark.parametrize(
        ("arguments", "error", "words"),
        [
            ({"models": []}, UsageError, "no model"),
            ({"models": [1, 2]}, UsageError, "not int"),
            ({"method": "avarage"}, PluginError, "avarage"),
            ({"method": "ties", "densty": 1}, MergeError, "densty"),
            ({"rules": "version: 1", "method": "ties"}, UsageError, "cannot be combined"),
            ({"statistics": [{}]}, UsageError, "1 statistics for 2 models"),
            ({"device": "tpu"}, ConfigError, "tpu"),
            ({"weights": [1]}, MergeError, "1 weights"),
        ],
    )
    def test_mistakes_are_named(self, arguments, error, words):
        with pytest.raises(error, match=words):
            git_theta_ext.merge(**({"models": [state(w=[1.0]), state(w=[2.0])]} | arguments))


class TestVersions:
    def test_a_version_is_loaded(self, two):
        same(git_theta_ext.load(f"one:{MODEL}", repository=two.path), load_bytes(model(1)))

    @pytest.mark.parametrize("method", ["average", "ties"])
    def test_a_merge_of_versions_is_that_of_git(self, three, method):
        found = git_theta_ext.merge([f"main:{MODEL}", f"side:{MODEL}"], method, repository=three.path)
        three.git("merge", "--quiet", "-s", "theta", "-X", f"method={method}", "side")
        same(found, load_bytes(three.read()))

    def test_nothing_is_added_to_the_store(self, three):
        before = sorted(three.path.rglob(".git/theta/packs/*/*"))
        git_theta_ext.merge([f"main:{MODEL}", f"side:{MODEL}"], repository=three.path)
        assert sorted(three.path.rglob(".git/theta/packs/*/*")) == before

    def test_versions_and_state_dicts_mix(self, three):
        theirs = git_theta_ext.load(f"side:{MODEL}", repository=three.path)
        names = [f"main:{MODEL}", f"side:{MODEL}"]
        expected = git_theta_ext.merge(names, repository=three.path)
        same(git_theta_ext.merge([names[0], theirs], base=f"base:{MODEL}", repository=three.path), expected)

    def test_two_models_of_one_commit_are_both_merged(self, repo):
        repo.write_model("one.safetensors", seed=1)
        repo.write_model("other.safetensors", seed=2)
        repo.commit("two models")
        names = ["HEAD:one.safetensors", "HEAD:other.safetensors"]
        loaded = [git_theta_ext.load(name, repository=repo.path) for name in names]
        rules = "version: 1\nrules: [{match: position_ids, method: ours}]"
        same(
            git_theta_ext.merge(names, rules=rules, repository=repo.path),
            git_theta_ext.merge(loaded, rules=rules),
        )

    def test_a_model_that_was_renamed_is_compared_with_what_it_was(self, forked):
        expected = git_theta_ext.merge([f"main:{MODEL}", f"side:{MODEL}"], repository=forked.path)
        forked.git("mv", MODEL, "renamed.safetensors")
        forked.git("commit", "--quiet", "-m", "rename")
        for names in (["main:renamed.safetensors", f"side:{MODEL}"], [f"side:{MODEL}", "main:renamed.safetensors"]):
            same(git_theta_ext.merge(names, repository=forked.path), expected)

    def test_a_model_that_one_branch_added_is_not_taken_for_a_change_of_another(self, forked):
        forked.write_model("added.safetensors", seed=7, changed={"position_ids": 1})
        forked.commit("add a model")
        names = [f"side:{MODEL}", "main:added.safetensors"]
        loaded = [git_theta_ext.load(name, repository=forked.path) for name in names]
        same(git_theta_ext.merge(names, repository=forked.path), git_theta_ext.merge(loaded))

    def test_what_does_not_exist_is_named(self, three):
        with pytest.raises(RepositoryError, match=f"nowhere:{MODEL}"):
            git_theta_ext.merge([f"main:{MODEL}", f"nowhere:{MODEL}"], repository=three.path)
        with pytest.raises(RepositoryError, match="path 'main' does not exist in 'HEAD'"):
            git_theta_ext.load("main", repository=three.path)

    def test_errors_are_fit_for_a_terminal_and_show_their_hint(self, three):
        with pytest.raises(RepositoryError) as caught:
            git_theta_ext.load("\x1b[2J", repository=three.path)
        shown = "".join(traceback.format_exception(caught.value))
        assert "\x1b" not in shown
        assert sys.version_info < (3, 11) or shown.count("hint: ") == 1


class TestAsGitMerge:
    """What git leaves in conflict is an error here."""

    ROWS = torch.zeros(6, 3)

    @pytest.mark.parametrize("method", ["average", "ties"])
    def test_what_both_added_is_no_mean_of_different_things(self, method):
        appended = [torch.cat([self.ROWS, value * torch.ones(2, 3)]) for value in (1, 3)]
        with pytest.raises(MergeError, match=r"in conflict: .e. "):
            git_theta_ext.merge([{"e": one} for one in appended], method, base={"e": self.ROWS})
        added = [{"e": self.ROWS, "h": value * torch.ones(2)} for value in (1, 3)]
        with pytest.raises(MergeError, match="added by both, differently"):
            git_theta_ext.merge(added, method, base={"e": self.ROWS})

    def test_without_a_base_they_are_merged(self):
        found = git_theta_ext.merge([{"h": value * torch.ones(2)} for value in (1, 3)])
        assert found["h"].tolist() == [2, 2]

    def test_a_cast_is_no_change(self):
        base = torch.tensor([1 / 3, 2 / 3])
        found = git_theta_ext.merge([{"w": base.bfloat16()}, {"w": base + 1}], base={"w": base})
        assert found["w"].dtype == torch.bfloat16
        assert torch.equal(found["w"], (base + 1).bfloat16())

    def test_a_change_is_applied(self):
        found = git_theta_ext.merge(
            [{"w": torch.tensor([5.0])}, {"w": torch.tensor([3.0])}], "apply", base={"w": torch.tensor([1.0])}
        )
        assert found["w"].tolist() == [7]

    @pytest.mark.parametrize("method", ["sum", "task_arithmetic"])
    def test_integers_never_wrap_around(self, method):
        large = torch.tensor([2**62 + 5, 1])
        with pytest.raises(MergeError, match="the sum does not fit in 64 bits"):
            git_theta_ext.merge([{"n": large + 1}, {"n": large + 2}], method, base={"n": torch.tensor([0, 0])})
        small = torch.tensor([2**61, -(2**61)])
        found = git_theta_ext.merge([{"n": small + 1}, {"n": small + 2}], method, base={"n": torch.tensor([0, 0])})
        assert found["n"].tolist() == [2**62 + 3, 3 - 2**62]

    def test_unsigned_integers_that_are_too_large_to_compare_are_named(self):
        values = [torch.tensor([2**63 + number], dtype=torch.uint64) for number in (1, 2)]
        with pytest.raises(MergeError, match="integers of more than 63 bits"):
            git_theta_ext.merge(
                [{"n": value} for value in values], "max", base={"n": torch.tensor([0], dtype=torch.uint64)}
            )


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, git_theta_ext; print(sorted({'torch', 'numpy', 'git', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_other_names_do_not_exist():
    with pytest.raises(AttributeError, match="merg"):
        git_theta_ext.merg  # noqa: B018 - that it fails is the point


TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(3, dtype=torch.bfloat16), "c": torch.tensor(7)}


class TestSave:
    def test_a_file_of_safetensors_is_that_of_its_library_and_staged(self, repo, monkeypatch):
        monkeypatch.chdir(repo.path)
        git_theta_ext.save(TENSORS, "model.safetensors", metadata={"format": "pt"})
        assert repo.read() == save_bytes(TENSORS, {"format": "pt"})
        assert repo.git("status", "--porcelain").split() == ["A", "model.safetensors"]
        same(git_theta_ext.load(":model.safetensors"), TENSORS)

    def test_a_path_that_is_only_there_relative_to_the_directory_is_named_in_the_hint(self, repo, monkeypatch):
        (repo.path / "sub").mkdir()
        monkeypatch.chdir(repo.path / "sub")
        git_theta_ext.save(TENSORS, "model.safetensors")
        for name in (":./model.safetensors", ":sub/model.safetensors"):
            same(git_theta_ext.load(name), TENSORS)
        repo.git("commit", "--quiet", "-m", "one")
        with pytest.raises(RepositoryError) as caught:
            git_theta_ext.load("model.safetensors")
        assert caught.value.hint.endswith("git theta show HEAD:./model.safetensors")
        with pytest.raises(RepositoryError) as caught:
            git_theta_ext.load("other.safetensors")
        assert caught.value.hint == "git theta ls-files HEAD"
        same(git_theta_ext.load("./model.safetensors"), TENSORS)

    @pytest.mark.parametrize("name", ["model.pt", "sub/with space.pt"])
    def test_a_file_of_torch_is_that_of_torch(self, repo, tmp_path, monkeypatch, name):
        monkeypatch.chdir(repo.path)
        (repo.path / "sub").mkdir()
        module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
        module[0].bias = torch.nn.Parameter(module[0].weight[0])  # memory that two parameters share
        with Repo(repo.path) as opened:
            git_theta_ext.save(module.state_dict(), name, repository=opened)
        torch.save(module.state_dict(), expected := tmp_path / name.rpartition("/")[2])
        assert repo.read(name) == expected.read_bytes()
        assert "".join(repo.git("status", "--porcelain", "-z").split("\0")) == f"A  {name}"
        found = git_theta_ext.load(f":{name}")
        assert module.state_dict().keys() - found.keys() == {"0.bias"}  # a parameter is a storage
        assert all(torch.equal(tensor, module.state_dict()[name]) for name, tensor in found.items())
        assert not list(repo.path.rglob("*.theta-folder"))

    def test_arrays_of_numpy_are_written_as_by_numpy(self, repo, tmp_path, monkeypatch):
        monkeypatch.chdir(repo.path)
        arrays = {"b": np.arange(6, dtype=">f4").reshape(2, 3).astype("f4"), "c": np.array(7), "e": np.zeros((0, 2))}
        git_theta_ext.save(arrays, "model.npz")
        np.savez(tmp_path / "model.npz", **arrays)
        assert repo.read("model.npz") == (tmp_path / "model.npz").read_bytes()
        git_theta_ext.save(arrays, "model.safetensors")
        assert repo.read() == save_arrays(arrays)
        half = {"w": np.ones(3, ml_dtypes.bfloat16), "t": np.arange(6, dtype=">i4").reshape(2, 3).T}
        git_theta_ext.save(half, "model.safetensors")
        found = git_theta_ext.load(":model.safetensors", framework="np")
        assert found["w"].dtype == ml_dtypes.bfloat16
        assert np.array_equal(found["t"], half["t"])

    def test_what_cannot_be_saved_is_named_and_leaves_nothing(self, repo, monkeypatch):
        monkeypatch.chdir(repo.path)
        with pytest.raises(UsageError, match=r"model\.unknown is not tracked"):
            git_theta_ext.save(TENSORS, "model.unknown")
        with pytest.raises(UsageError, match="is not in the work tree") as refused:
            git_theta_ext.save(TENSORS, "../model.safetensors")
        assert refused.value.hint == "git_theta_ext.save(tensors, 'model.safetensors')"
        with pytest.raises(FormatError, match="parameter 'a' has elements of the type BF16, which npz does not have"):
            git_theta_ext.save(TENSORS, "model.npz")
        with pytest.raises(UsageError, match="no arrays of numpy"):
            git_theta_ext.save({"a": np.ones(2)}, "model.pt")
        with pytest.raises(FormatError, match="parameter 'a' is an array of str"):
            git_theta_ext.save({"a": np.array(["text"])}, "model.npz")
        assert not {path.name for path in repo.path.iterdir()} - {".git", ".gitattributes"}


class TestDiff:
    def test_a_comparison_is_text_data_a_table_and_a_page(self, two):
        two.write_model(seed=2, changed={EMBEDDING: 9})
        two.commit("three")
        found = git_theta_ext.diff(f"two:{MODEL}", f"HEAD:{MODEL}", repository=two.path)
        assert found
        printed = two.git("theta", "diff", "two", "HEAD")
        assert repr(found) == printed.replace(MODEL, f"two:{MODEL} -> HEAD:{MODEL}", 1) + "\n"
        (row,) = found.to_dict()["parameters"]
        (listed,) = json.loads(two.git("theta", "diff", "--json", "two", "HEAD"))["models"][0]["parameters"]
        assert row == listed
        table = found.to_pandas()
        assert list(table.index) == [EMBEDDING]
        assert table["stats.relative"][EMBEDDING] == row["stats"]["relative"]
        assert found._repr_html_().startswith('<iframe srcdoc="&lt;!doctype html&gt;')

    def test_versions_are_also_commits_and_a_path(self, two):
        with Repo(two.path) as opened:
            found = git_theta_ext.diff(opened.commit("one"), "two", MODEL, repository=opened)
            named = git_theta_ext.diff(f"one:{MODEL}", f"two:{MODEL}", repository=opened)
        assert found.to_dict()["parameters"] == named.to_dict()["parameters"]

    def test_the_same_version_differs_in_nothing(self, two):
        found = git_theta_ext.diff(f"two:{MODEL}", f"HEAD:{MODEL}", repository=two.path)
        assert not found
        assert found.to_pandas().empty

    def test_missing_values_are_fetched(self, two, tmp_path):
        two.git("theta", "install", "--global")
        bare = tmp_path / "shared.git"
        two.git("init", "--quiet", "--bare", str(bare))
        two.git("push", "--quiet", str(bare), "--all")
        two.git("push", "--quiet", str(bare), "--tags")
        environment = {**os.environ, "GIT_THETA_SKIP_SMUDGE": "1"}
        two.git("clone", "--quiet", str(bare), str(tmp_path / "clone"), env=environment)
        found = git_theta_ext.diff(f"one:{MODEL}", f"two:{MODEL}", repository=tmp_path / "clone")
        assert all("stats" in row for row in found.to_dict()["parameters"])


class TestLog:
    def test_a_history_is_text_data_a_table_and_a_page(self, two):
        found = git_theta_ext.log(MODEL, repository=two.path)
        assert [entry.subject for entry in found] == ["two", "one"]
        with Repo(two.path) as opened:
            assert found[0].commit == opened.head.commit
            entries = git_theta_ext.log(MODEL, rev=opened.commit("one"), repository=opened)
            assert [entry.commit for entry in entries] == [opened.commit("one")]
            assert entries[0].commit.repo is opened
        assert found.to_dict() == {"commits": json.loads(two.git("theta", "log", "--json"))["commits"]}
        assert two.git("theta", "log") == repr(found)
        assert list(found.to_pandas()["path"]) == [MODEL, MODEL]
        assert found._repr_html_().startswith('<iframe srcdoc="&lt;!doctype html&gt;')

    def test_revisions_paths_and_patterns_select_commits(self, two):
        two.write_model("other/" + MODEL, seed=2)
        two.commit("other")
        two.write_model(seed=2, changed={EMBEDDING: 9})
        two.commit("three")

        def subjects(*args, **options):
            with Repo(two.path) as opened:
                return [entry.subject for entry in git_theta_ext.log(*args, repository=opened, **options)]

        assert subjects() == ["three", "other", "two", "one"]
        assert subjects("other") == ["other"]
        assert subjects(MODEL, parameters="embeddings.**") == ["three", "two", "one"]
        assert subjects(rev="one..two") == ["two"]
        assert subjects(rev=Repo(two.path).commit("one")) == ["one"]
        assert subjects("nothing") == []
        with pytest.raises(RepositoryError):
            subjects(rev="--all")
        with pytest.raises(UsageError, match="parameters: "):
            subjects(parameters=["[z-a]"])


def test_the_package_lists_what_there_is():
    assert dir(git_theta_ext) == sorted(git_theta_ext.__all__)
    assert all(getattr(git_theta_ext, name) for name in dir(git_theta_ext))
