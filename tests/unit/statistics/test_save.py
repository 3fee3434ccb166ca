"""Statistics are written beside the checkpoint that they fit, or not at all."""

import errno

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from git_theta_ext.checkpoint.clean import describe
from git_theta_ext.errors import FormatError, StoreError, UsageError
from git_theta_ext.model.manifest import values_digest
from git_theta_ext.statistics.collect import collect
from git_theta_ext.statistics.save import save
from git_theta_ext.statistics.sidecar import Facts, check, facts_of


@pytest.fixture
def model():
    made = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return made.requires_grad_()


@pytest.fixture
def checkpoint(tmp_path, model):
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    return path


def collected(model):
    rows = torch.randn((5, 3), generator=torch.Generator().manual_seed(1))
    return collect(model, rows, lambda module, row: module(row).square().sum(), ("fisher", "gram", "grad_gram"))


def test_statistics_come_back_as_they_were(checkpoint, model):
    statistics = collected(model)
    path = save(checkpoint, statistics, 5)
    assert path == checkpoint.with_name("model.stats.safetensors")
    found = load_file(path)
    assert set(found) == set(statistics)
    assert all(torch.equal(found[name], tensor) for name, tensor in statistics.items())
    manifest = describe(memoryview(checkpoint.read_bytes()), "model").manifest
    values = values_digest(manifest.parameters)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "git-theta-stats 1", "samples": "5", "checkpoint": values}
    assert facts_of(memoryview(path.read_bytes())) == Facts(5, values)


def test_the_file_is_a_checkpoint_of_its_own_that_fits_the_other(checkpoint, model):
    path = save(checkpoint, collected(model), 5)
    manifests = [describe(memoryview(file.read_bytes()), file.name).manifest for file in (path, checkpoint)]
    assert {manifest.format for manifest in manifests} == {"safetensors"}
    specs = [{name: found.spec for name, found in manifest.parameters.items()} for manifest in manifests]
    check(*specs)
    assert len(specs[0]) == 4 + 2 + 2


def test_earlier_statistics_are_replaced_and_nothing_else_is_left(checkpoint, model):
    save(checkpoint, collected(model), 5)
    path = save(checkpoint, {"fisher/0.bias": torch.ones(4)}, 1)
    assert list(load_file(path)) == ["fisher/0.bias"]
    assert {file.name for file in checkpoint.parent.iterdir()} == {"model.safetensors", "model.stats.safetensors"}


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_statistics_are_as_readable_as_the_checkpoint(checkpoint, mode):
    checkpoint.chmod(mode)
    assert save(checkpoint, {"fisher/0.bias": torch.ones(4)}, 1).stat().st_mode & 0o777 == mode


def test_of_tied_parameters_the_names_count_that_the_checkpoint_has(tmp_path):
    model = nn.ModuleDict({"embed": nn.Embedding(4, 3), "head": nn.Linear(3, 4, bias=False)})
    model["head"].weight = model["embed"].weight
    statistics = collect(model, torch.arange(4), lambda m, token: m["head"](m["embed"](token)).sum(), ("fisher",))
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    save_file({"embed.weight": torch.zeros(4, 3), "head.weight": torch.zeros(4, 3)}, whole)
    save_file({"embed.weight": torch.zeros(4, 3)}, half)
    found = load_file(save(whole, statistics, 4))
    assert torch.equal(found["fisher/embed.weight"], found["fisher/head.weight"])
    assert list(load_file(save(half, statistics, 4))) == ["fisher/embed.weight"]


@pytest.mark.parametrize(
    ("statistics", "error", "message"),
    [
        ({"fisher/module.0.bias": torch.ones(4)}, FormatError, "model.safetensors: statistic 'fisher/module.0.bias'"),
        ({"gram/0.weight": torch.ones(4, 4)}, FormatError, r"not F32 or F64 \[3,3\]"),
        ({"fisher/0.bias": torch.tensor([0.0, 1, torch.inf, 0])}, UsageError, "'fisher/0.bias' is not finite"),
        ({"fisher/0.bias": torch.tensor([0.0, 1, torch.nan, 0])}, UsageError, "'fisher/0.bias' is not finite"),
    ],
    ids=["prefix", "shape", "infinite", "nan"],
)
def test_statistics_that_do_not_fit_are_not_written(checkpoint, statistics, error, message):
    with pytest.raises(error, match=message):
        save(checkpoint, statistics, 1)
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


@pytest.mark.parametrize("content", [b"", b"no checkpoint" * 100], ids=["empty", "text"])
def test_a_file_without_tensors_has_no_statistics(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"model\.safetensors: "):
        save(path, {"fisher/w": torch.ones(4)}, 1)
    assert list(tmp_path.iterdir()) == [path]


def test_of_a_manifest_there_are_no_statistics(tmp_path, checkpoint):
    path = tmp_path / "other.safetensors"
    path.write_bytes(describe(memoryview(checkpoint.read_bytes()), "model").manifest.to_bytes())
    with pytest.raises(UsageError, match="is only a manifest") as caught:
        save(path, {"fisher/0.bias": torch.ones(4)}, 1)
    assert caught.value.hint == f"git theta checkout {path}"


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"cannot read .*model\.safetensors: No such file"):
        save(tmp_path / "model.safetensors", {"fisher/w": torch.ones(4)}, 1)


def test_a_disk_that_is_full_leaves_the_earlier_statistics(checkpoint, model, monkeypatch):
    path = save(checkpoint, collected(model), 5)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(StoreError, match=r"cannot write .*: No space left"):
        save(checkpoint, {"fisher/0.bias": torch.ones(4)}, 1)
    assert path.read_bytes() == before
    assert {file.name for file in checkpoint.parent.iterdir()} == {"model.safetensors", "model.stats.safetensors"}


def test_what_the_safetensors_library_cannot_write_is_named(checkpoint, monkeypatch):
    def full(*_):
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(StoreError, match=r"cannot write .*model\.stats\.safetensors"):
        save(checkpoint, {"fisher/0.bias": torch.ones(4)}, 1)


def test_statistics_of_a_model_in_two_files_are_one_file(tmp_path, checkpoint, model):
    run = tmp_path / "run"
    run.mkdir()
    state = model.state_dict()
    for number, names in enumerate((["0.weight", "0.bias"], ["2.weight", "2.bias"]), 1):
        save_file({name: state[name] for name in names}, run / f"model-0000{number}-of-00002.safetensors")
    save_file({"w": torch.ones(2)}, run / "optimizer.safetensors")
    path = save(run, collected(model), 5)
    assert path == run / "model.stats.safetensors"
    assert save(run, collected(model), 5) == path
    whole = save(checkpoint, collected(model), 5)
    assert facts_of(memoryview(path.read_bytes())) == facts_of(memoryview(whole.read_bytes()))
    assert load_file(path).keys() == load_file(whole).keys()
    second = run / "model-00002-of-00002.safetensors"
    second.unlink()
    with pytest.raises(UsageError, match="has several models"):
        save(run, {}, 5)
    save_file(state, second)
    with pytest.raises(FormatError, match="parameters of the same name"):
        save(run, {}, 5)
