"""The tutorial of docs/searching.md on models that were really fine-tuned: two experts, each on half of the digits."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from benchmarks.digits import Trainer, digits
from benchmarks.searches import EVALUATE
from helpers import MODEL
from safetensors.torch import load_file, save

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.digits import Sets
    from helpers import Repo, WithHistory

SEED = 1
TRAINER = Trainer("perceptron")
DOCUMENT = (Path(__file__).parents[2] / "docs/searching.md").read_text("utf-8")
TUTORIAL = DOCUMENT[DOCUMENT.index("## Example") : DOCUMENT.index("## The file")]


def _block(language: str) -> str:
    return re.findall(rf"```{language}\n(.*?)```", TUTORIAL, re.DOTALL)[0]


@pytest.fixture
def sets() -> Iterator[Sets]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the models are too small for more
    yield digits(SEED)
    torch.set_num_threads(threads)


@pytest.fixture
def experts(with_history: WithHistory, sets: Sets) -> Repo:
    """Return a repository with a base on ``main``, and experts on ``alice`` and ``bob``."""

    def make(repo: Repo) -> None:
        base = TRAINER.base(sets, SEED)
        repo.write(save(base))
        repo.commit("base")
        for number, name in enumerate(("alice", "bob")):
            repo.switch("-b", name, "main")
            repo.write(save(TRAINER.expert(base, sets.parts("halves")[number], number)))
            repo.commit(name)
        repo.switch("main")

    return with_history(make)


def test_the_commands_of_the_tutorial_find_a_better_merge(experts: Repo, sets: Sets, tmp_path: Path) -> None:
    examples = tmp_path / "examples.npz"
    _save(examples, sets)
    script = EVALUATE.read_text("utf-8").replace("main(*sys.argv[1:])", f"main({str(examples)!r}, sys.argv[1])")
    experts.write(script.encode(), "eval.py")
    experts.write(_block("yaml").encode(), "search.yml")
    listing, search, replay = (shlex.split(line) for line in _block("sh").splitlines())
    assert len(experts.git(*listing[1:]).splitlines()) == 9
    found = json.loads(experts.git(*search[1:], "--json"))
    before, *tried = (row["score"] for row in found["candidates"])
    assert found["best"]["score"] == max(tried) > before
    assert "<circle" in (experts.path / "search.html").read_text("utf-8")
    assert experts.git(*replay[1:]).startswith(f"{MODEL}: 6 parameters computed again, identical to HEAD")
    values = load_file(experts.path / MODEL)
    assert TRAINER.accuracy(values, sets.validation) == pytest.approx(found["best"]["score"])
    # On images that neither training nor the search has seen; other seeds keep the margin, too.
    assert TRAINER.accuracy(values, sets.test) > before + 0.02


def _save(path: Path, sets: Sets) -> None:
    import numpy as np

    np.savez(path, inputs=sets.validation.inputs.numpy(), labels=sets.validation.labels.numpy())
