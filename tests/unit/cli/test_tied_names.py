"""Tied weights in files of torch have all their names in Python and in exports."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import git_theta_ext
from git_theta_ext.cli.main import main
from git_theta_ext.errors import FormatError


@pytest.fixture
def tied(repo, monkeypatch):
    """Work in a repository with a model whose output layer is its embedding."""
    monkeypatch.chdir(repo.path)
    embedding = torch.arange(12.0).reshape(3, 4)
    state = {
        "embed.weight": embedding,
        "norm.weight": torch.ones(4),
        "head.weight": embedding.detach(),
        "again": embedding,
    }
    torch.save(state, "model.pt")
    torch.save(state, "legacy.pt", _use_new_zipfile_serialization=False)
    repo.commit("model")
    return state


@pytest.mark.parametrize("path", ["model.pt", "legacy.pt"])
def test_all_names_can_be_loaded(tied, path):
    loaded = git_theta_ext.load(path)
    assert loaded.keys() == tied.keys()
    assert all(torch.equal(loaded[name], tied[name]) for name in tied)
    with git_theta_ext.open(path, framework="np") as model:
        assert (model.get_slice("head.weight")[1] == np.arange(4.0, 8.0)).all()


def test_a_file_that_was_saved_in_python_is_loaded_with_all_names(tied, repo):
    git_theta_ext.save(tied, "saved.pt")
    repo.git("commit", "-qm", "saved")
    assert git_theta_ext.load("saved.pt").keys() == tied.keys()


def test_all_names_are_converted(tied, tmp_path, capfdbinary):
    target = tmp_path / "model.npz"
    assert main(["export", "HEAD:model.pt", str(target), "--to", "npz"]) == 0
    with np.load(target) as arrays:
        assert sorted(arrays) == sorted(tied)
        assert (arrays["head.weight"] == arrays["embed.weight"]).all()
    capfdbinary.readouterr()
    assert main(["cat", "HEAD:model.pt", "again"]) == 0
    assert capfdbinary.readouterr().out == np.arange(12, dtype="<f4").tobytes()


def test_a_view_with_another_shape_is_no_further_name(repo, monkeypatch):
    monkeypatch.chdir(repo.path)
    whole = torch.arange(12.0)
    torch.save({"flat": whole, "square": whole.reshape(3, 4)}, "model.pt")
    repo.commit("model")
    assert git_theta_ext.load("model.pt").keys() == {"flat"}


def test_a_small_file_with_very_many_names_is_refused(repo, monkeypatch):
    monkeypatch.chdir(repo.path)
    whole = torch.arange(30_000.0)
    torch.save({f"n{number}": whole.detach() for number in range(102)}, "model.pt")
    repo.commit("model")
    with pytest.raises(FormatError, match="they take over 100 times its size"):
        git_theta_ext.load("model.pt")
