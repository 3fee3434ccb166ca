"""``git theta stats collect`` and ``git theta stats show``."""

from __future__ import annotations

import json

import pytest
import torch
from helpers import MODEL
from safetensors.torch import load_file, save_file
from torch import nn

from git_theta_ext.cli.main import main

STATISTICS = "model.stats.safetensors"
CODE = """
import torch
from torch import nn
print("the user's own words")
def collected():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).eval()
    examples = [torch.randn(3) for _ in range(6)]
    return model, examples, lambda module, row: module(row[None]).square().sum()
def endless():
    model, examples, loss = collected()
    def forever():
        while True:
            yield from examples
    return model, forever(), loss
def failing():
    model, examples, _ = collected()
    return model, examples, lambda module, row: 1 / 0
def other():
    return nn.Linear(3, 4), [], print
"""


def saved(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    state = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).state_dict()
    save_file(state, MODEL)
    return state


@pytest.fixture
def folder(repo, monkeypatch):
    """The work tree of a repository, with a checkpoint and a module of the user's."""
    monkeypatch.chdir(repo.path)
    (repo.path / "mine_to_collect.py").write_text(CODE)
    saved(1)
    return repo


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Let every test import the module anew."""
    import sys

    monkeypatch.delitem(sys.modules, "mine_to_collect", raising=False)
    yield
    sys.modules.pop("mine_to_collect", None)


def collect(*words: str, function: str = "collected") -> int:
    return main(["stats", "collect", MODEL, "--with", f"mine_to_collect:{function}", *words])


def printed_json(capsys) -> dict[str, object]:
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_statistics_are_those_of_the_checkpoints_values(folder, capsys):
    assert collect() == 0
    out, err = capsys.readouterr()
    assert "fisher of 4 parameters, gram of 2 parameters, 6 examples" in out
    assert out.splitlines()[-1] == f"git add {STATISTICS}"
    assert err == "the user's own words\n"
    torch.manual_seed(0)
    nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    rows = torch.stack([torch.randn(3) for _ in range(6)])
    found = load_file(STATISTICS)
    torch.testing.assert_close(found["gram/0.weight"], rows.T @ rows / 6)
    state = load_file(MODEL)
    outputs = torch.tanh(rows @ state["0.weight"].T + state["0.bias"]) @ state["2.weight"].T + state["2.bias"]
    torch.testing.assert_close(found["fisher/2.bias"], (2 * outputs).square().mean(0))


def test_kinds_and_number_of_examples_are_the_users_choice(folder, capsys):
    assert collect("--kinds", "grad_gram,gram", "--samples", "4", "--device", "cpu", "--json", function="endless") == 0
    found = printed_json(capsys)
    assert (found["samples"], found["kinds"]) == (4, {"gram": 2, "grad_gram": 2})


def test_show_says_whether_they_are_of_these_values(folder, capsys):
    assert main(["stats", "show", MODEL, "--json"]) == 1
    assert printed_json(capsys)["statistics"] is None
    collect()
    capsys.readouterr()
    assert main(["stats", "show", MODEL]) == 0
    assert "were collected with its values" in capsys.readouterr().out
    saved(2)
    assert main(["stats", "show", MODEL, "--json"]) == 1
    found = printed_json(capsys)
    assert (found["samples"], found["misfit"], found["same_values"]) == (6, None, False)
    main(["stats", "show", MODEL])
    assert "were collected with other values" in capsys.readouterr().out


def test_show_reads_statistics_that_do_not_say_of_which_values_they_are(folder, capsys):
    save_file({"fisher/0.bias": torch.ones(4)}, STATISTICS, {"format": "git-theta-stats 1", "samples": "9"})
    assert main(["stats", "show", MODEL, "--json"]) == 0
    found = printed_json(capsys)
    assert (found["samples"], found["same_values"]) == (9, None)


def test_show_names_what_does_not_fit(folder, capsys):
    save_file({"fisher/0.bias": torch.ones(5)}, STATISTICS)
    assert main(["stats", "show", MODEL]) == 1
    assert "statistic 'fisher/0.bias' is F32 [5]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["collect", MODEL], 2, "--with MODULE:FUNCTION"),
        (["collect", MODEL, "--with", "mine_to_collect:colected"], 2, "did you mean collected?"),
        (["collect", MODEL, "--with", "mine_to_collect:other"], 4, "does not fit the model"),
        (["collect", MODEL, "--with", "mine_to_collect:failing"], 2, "failed: ZeroDivisionError: division by zero"),
        (["collect", MODEL, "--with", "mine_to_collect:collected", "--kinds", "hessian"], 2, "statistics 'hessian'"),
        (["collect", MODEL, "--with", "mine_to_collect:collected", "--samples", "0"], 2, "must be at least 1"),
        (["collect", "gone.safetensors", "--with", "mine_to_collect:collected"], 8, "cannot read gone.safetensors"),
        (["show", MODEL, "--with", "mine_to_collect:collected"], 2, "--with needs collect"),
        (["measure", MODEL], 2, "measure"),
    ],
)
def test_mistakes_are_named_and_nothing_is_written(folder, capsys, words, code, message):
    assert main(["stats", *words]) == code
    assert message in capsys.readouterr().err
    assert not (folder.path / STATISTICS).exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_named(folder, capsys):
    assert collect("--device", "cuda") == 2
    assert "no CUDA device" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_statistics_are_the_same_on_a_gpu(folder, capsys):
    collect("--device", "cpu")
    expected = load_file(STATISTICS)
    assert collect("--device", "cuda") == 0
    for name, found in load_file(STATISTICS).items():
        torch.testing.assert_close(found, expected[name], rtol=1e-3, atol=1e-5)


def test_files_of_the_folder_are_not_taken_for_libraries(folder, capsys):
    for name in ("safetensors", "blake3", "rich"):
        (folder.path / f"{name}.py").write_text("raise SystemExit('this was not asked for')")
    assert collect() == 0


def test_a_checkpoint_that_changes_meanwhile_gets_no_statistics(folder, capsys, monkeypatch):
    from git_theta_ext.statistics import collect as collecting

    def meanwhile(*args):
        saved(3)
        return {"fisher/0.bias": torch.ones(4)}

    monkeypatch.setattr(collecting, "collect", meanwhile)
    assert collect() == 4
    assert "was changed while" in capsys.readouterr().err
    assert not (folder.path / STATISTICS).exists()


def test_statistics_that_git_theta_does_not_track_are_reported(folder, capsys):
    (folder.path / ".gitattributes").write_text("model.safetensors filter=theta diff=theta merge=theta -text\n")
    assert collect() == 0
    assert "git theta track '*.stats.safetensors'" in capsys.readouterr().err


def test_without_a_repository_it_works_as_well(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_to_collect.py").write_text(CODE)
    saved(1)
    assert collect("--quiet") == 0
    assert capsys.readouterr().out == ""
    assert main(["stats", "show", MODEL]) == 0
