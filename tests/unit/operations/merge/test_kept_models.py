"""Whether git's merge ended with a model that the merge driver merged as one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from git_theta_ext.model.manifest import Manifest, Skeleton
from git_theta_ext.operations.merge.kept_models import is_kept, keep
from git_theta_ext.operations.merge.model_directories import MergedModel
from git_theta_ext.operations.merge.unfinished_models import warn_of_models

NAME, OTHER = "run/model.safetensors", "run/other.safetensors"
SHARDS = {
    f"run/model-0000{number}-of-00002.safetensors": Manifest("safetensors", Skeleton.of(bytes([number])), {}).to_bytes()
    for number in (1, 2)
}
INDEX = {"run/model.safetensors.index.json": b"{}"}


def kept(tmp_path, *, by_git: bool = True) -> SimpleNamespace:
    """Return a repository in which the driver merged a model."""
    repo = SimpleNamespace(git_dir=tmp_path)
    directories = SimpleNamespace(folder="run", base=None, sides=())
    keep(repo, directories, "", MergedModel(NAME, SHARDS | INDEX, (), by_git))
    return repo


def test_all_files_of_a_merged_model_are_kept(tmp_path):
    repo = kept(tmp_path)
    assert is_kept(repo, NAME, SHARDS)
    assert not is_kept(repo, OTHER, SHARDS)
    assert not is_kept(SimpleNamespace(git_dir=tmp_path / "other"), NAME, SHARDS)


@pytest.mark.parametrize("change", ["fewer", "more", "other content"])
def test_other_files_than_those_of_the_merged_model_are_not_kept(tmp_path, change):
    first, second = SHARDS
    files = {
        "fewer": {first: SHARDS[first]},
        "more": SHARDS | {"run/model-00003-of-00003.safetensors": SHARDS[first]},
        "other content": SHARDS | {second: SHARDS[first]},
    }[change]
    assert not is_kept(kept(tmp_path), NAME, files)


def test_a_model_with_which_the_merge_of_git_does_not_end_is_not_kept(tmp_path):
    assert not is_kept(kept(tmp_path, by_git=False), NAME, SHARDS)


def test_git_is_not_asked_about_a_model_that_the_driver_merged(tmp_path):
    """The repository has nothing that could ask git."""
    warn_of_models(SimpleNamespace(repo=kept(tmp_path)), SHARDS, "merge", merges=True)
    with pytest.raises(AttributeError):
        warn_of_models(SimpleNamespace(repo=kept(tmp_path)), dict([*SHARDS.items()][:1]), "merge", merges=True)
