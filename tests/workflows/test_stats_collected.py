"""Two branches train a classifier on half of the classes each, collect statistics, and are merged by them."""

from __future__ import annotations

import importlib.util
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers import MODEL, Repo
from safetensors.torch import load, load_file, save_file

if TYPE_CHECKING:
    from pathlib import Path

STATISTICS = "model.stats.safetensors"
METHODS = ["average", "fisher", "regmean", "mats"]
TRAIN = '''
"""What a contributor has beside the checkpoint."""
from pathlib import Path
import torch
from torch import nn
from torch.nn.functional import cross_entropy

def blobs(classes):
    generator = torch.Generator().manual_seed(7)
    centres = 2 * torch.randn((4, 8), generator=generator)
    labels = torch.tensor(classes).repeat(60)
    return centres[labels] + torch.randn((len(labels), 8), generator=generator), labels

def classifier():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

def trained(model, examples, steps):
    optimiser = torch.optim.SGD(model.parameters(), 0.2)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(model, examples).backward()
        optimiser.step()
    return model

def loss(model, example):
    inputs, label = example
    return cross_entropy(model(inputs), label)

def statistics():
    classes = [int(word) for word in Path("classes.txt").read_text().split()]
    return classifier().eval(), list(zip(*blobs(classes))), loss
'''


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the contributors' module."""
    place = tmp_path_factory.mktemp("train") / "train.py"
    place.write_text(TRAIN)
    spec = importlib.util.spec_from_file_location("train_of_statistics", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trained(module_repo: Repo, train: Any) -> Repo:
    """Return a repository whose branches ``a`` and ``b`` trained on half of the classes, and say what they know."""
    repo = module_repo
    (repo.path / ".git/info").mkdir(exist_ok=True)
    (repo.path / ".git/info/exclude").write_text("__pycache__\nclasses.txt\n")
    repo.write(TRAIN.encode(), "train.py")
    base = train.trained(train.classifier(), train.blobs((0, 1, 2, 3)), 3)
    save_file(base.state_dict(), repo.path / MODEL)
    repo.commit("base")
    for name, classes in (("a", (0, 1)), ("b", (2, 3))):
        repo.switch("-b", name, "main")
        repo.write(" ".join(map(str, classes)).encode(), "classes.txt")
        model = train.classifier()
        model.load_state_dict(base.state_dict())
        save_file(train.trained(model, train.blobs(classes), 60).state_dict(), repo.path / MODEL)
        collect = ["theta", "stats", "collect", MODEL, "--with", "train:statistics", "--kinds", "fisher,gram,grad_gram"]
        assert repo.git(*collect).splitlines()[-1] == f"git add {STATISTICS}"
        repo.git("add", STATISTICS)
        repo.git("commit", "--quiet", "--all", "--message", name)
    repo.switch("main")
    return repo


@pytest.fixture
def copy(trained: Repo, tmp_path: Path) -> Repo:
    """Return a copy of the repository, with ``a`` checked out."""
    shutil.copytree(trained.path, tmp_path / "repo", symlinks=True)
    made = Repo(tmp_path / "repo")
    made.switch("a")
    return made


def version(repo: Repo, revision: str, path: str = MODEL) -> dict[str, torch.Tensor]:
    exported = repo.path.parent / "exported"
    repo.git("theta", "export", "--force", f"{revision}:{path}", str(exported))
    return load(exported.read_bytes())


def test_what_branches_know_merges_them_better_than_the_mean_in_one_command(trained: Repo, train: Any) -> None:
    losses = {}
    for method in METHODS:
        trained.switch("--detach", "main")
        done = trained.run("merge", "-s", "theta", "-X", f"method={method}", "a", "b")
        assert f"4 merged by {method}" in done.stderr
        assert "other values" not in done.stderr
        assert len(trained.git("log", "-1", "--format=%P").split()) == 2  # git leaves out main, which both contain
        model = train.classifier()
        model.load_state_dict(load_file(trained.path / MODEL))
        losses[method] = float(train.loss(model, train.blobs((0, 1, 2, 3))).detach())
        trained.git("theta", "merge", "--replay")
    assert losses["regmean"] < 0.8 * losses["average"]
    assert losses["mats"] < 0.8 * losses["average"]
    assert losses["fisher"] != losses["average"]


def test_statistics_weigh_the_values_and_are_merged_themselves_by_their_mean(copy: Repo) -> None:
    copy.git("-c", "theta.merge.method=fisher", "merge", "--quiet", "b")
    sides = [(version(copy, rev), version(copy, rev, STATISTICS)) for rev in ("HEAD^1", "b")]
    merged, beside = load_file(copy.path / MODEL), load_file(copy.path / STATISTICS)
    for name in merged:
        weights = [known[f"fisher/{name}"].double().clamp(min=1e-8) for _, known in sides]
        expected = sum(weight * values[name] for weight, (values, _) in zip(weights, sides, strict=True)) / sum(weights)
        torch.testing.assert_close(merged[name], expected.float(), rtol=1e-5, atol=1e-6)
    for name, found in beside.items():
        torch.testing.assert_close(found, (sides[0][1][name] + sides[1][1][name]) / 2)
    shown = json.loads(copy.run("theta", "stats", "show", MODEL, "--json", check=False).stdout)
    assert (shown["misfit"], shown["same_values"]) == (None, False)


def test_a_rule_for_statistics_counts(copy: Repo) -> None:
    rules = b"version: 1\nrules:\n  - {match: 'gram/**', method: theirs}\n  - {match: 'fisher/**', method: ties}\n"
    copy.write(rules, ".thetamerge")
    copy.commit("rules")
    copy.git("merge", "--quiet", "b")
    sides = [version(copy, rev, STATISTICS) for rev in ("HEAD^1", "b")]
    for name, found in load_file(copy.path / STATISTICS).items():
        expected = sides[1][name] if name.startswith("gram/") else (sides[0][name] + sides[1][name]) / 2
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "words", [["merge", "b"], ["merge", "-s", "theta", "b", "c"]], ids=["two sides", "three sides"]
)
def test_statistics_of_other_values_are_reported_at_the_merge(copy: Repo, words: list[str]) -> None:
    copy.git("branch", "c", "b")
    for name in ("a", "c"):
        copy.switch(name)
        state = load_file(copy.path / MODEL)
        save_file({key: value + 0.5 for key, value in state.items()}, copy.path / MODEL)
        copy.git("commit", "--quiet", "--all", "--message", "trained on, and not collected again")
    copy.switch("a")
    done = copy.run("-c", "theta.merge.method=fisher", *words)
    warned = [line for line in done.stderr.splitlines() if "other values" in line]
    sides = ["ours"] if "c" not in words else ["ours", "theirs2"]
    message = "were collected with other values: git theta stats collect"
    if "c" in words:
        sides = ["ours", "theirs"]  # git leaves out b, which c contains
    assert warned == [f"git-theta: {MODEL}: the statistics of {side} {message}" for side in sides]


def test_statistics_that_do_not_say_of_which_values_they_are_count_without_a_word(copy: Repo) -> None:
    for name in ("a", "b"):
        copy.switch(name)
        state = load_file(copy.path / STATISTICS)
        save_file(state, copy.path / STATISTICS, {"format": "git-theta-stats 1", "samples": "120"})
        copy.git("commit", "--quiet", "--all", "--message", "as before")
    done = copy.run("-c", "theta.merge.method=fisher", "merge", "a")
    assert "4 merged by fisher" in done.stderr
    assert "other values" not in done.stderr
