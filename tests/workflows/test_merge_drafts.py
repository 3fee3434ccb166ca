"""The checkout after a merge takes the file that the merge has written, and decodes the tensors if it cannot."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import MODEL, Repo, WithHistory, safetensors

if TYPE_CHECKING:
    from pathlib import Path

DRIVER = "git-theta merge-driver %O %A %B %L %P"
SIZES = {"layer.10": 5 << 19, "layer.2": 7 << 18, "norm": 100}


def _checkpoint(value: float) -> bytes:
    tensors = {name: ("F32", (size,), np.full(size, value, "<f4").tobytes()) for name, size in SIZES.items()}
    return safetensors(tensors)


def _branches(repo: Repo) -> None:
    for branch, value in (("main", 1.0), ("side", 2.0), ("main", 4.0)):
        if branch == "side":
            repo.git("branch", "side")
        repo.switch(branch)
        repo.write(_checkpoint(value))
        repo.commit(str(value))


def _merged(repo: Repo, tmp_path: Path, then: str) -> Path | None:
    """Merge by average, run a command in the directory of drafts after the driver, and return a link to the draft."""
    link = tmp_path / "link"
    after = f"(cd .git/theta/merging/drafts/* && ln * {shlex.quote(str(link))} && {then}) 2> /dev/null"
    repo.git("config", "merge.theta.driver", f"{DRIVER}; code=$?; {after}; exit $code")
    repo.run("-c", "theta.merge.method=average", "merge", "--quiet", "side")
    return link if link.exists() else None


@pytest.mark.parametrize(
    "then", ["true", "rm *", "printf x | tee -a *", "touch *", "cp -p * copy && mv copy $(ls | grep -v copy)"]
)
def test_the_merged_file_is_right_whatever_becomes_of_the_draft(
    with_history: WithHistory, tmp_path: Path, then: str
) -> None:
    repo = with_history(_branches)
    draft = _merged(repo, tmp_path, then)
    assert repo.problems(MODEL, _checkpoint(3.0)) == []
    assert draft is not None
    assert draft.samefile(repo.path / MODEL) == (then == "true")
    assert not [*(repo.path / ".git/theta/merging/drafts").iterdir()]


def test_merged_loras_are_put_in_place_as_they_were_merged(with_history: WithHistory, tmp_path: Path) -> None:
    def loras(repo: Repo) -> None:
        for branch, seed in (("main", 1), ("side", 2), ("main", 3)):
            if branch == "side":
                repo.git("branch", "side")
            repo.switch(branch)
            drawn = np.random.default_rng(seed).standard_normal((2, 48)).astype("<f4")
            shapes = {"q.lora_A.weight": (4, 12), "q.lora_B.weight": (12, 4)}
            pairs = zip(shapes.items(), drawn, strict=True)
            repo.write(safetensors({name: ("F32", shape, values.tobytes()) for (name, shape), values in pairs}))
            repo.commit(str(seed))

    repo = with_history(loras)
    repo.git("config", "filter.theta.process", "git-theta filter-process")  # else the shell gives so small a file
    draft = _merged(repo, tmp_path, "true")
    assert draft is not None
    assert draft.samefile(repo.path / MODEL)
    merged = (repo.path / MODEL).read_bytes()
    assert repo.git("status", "--porcelain") == ""
    (repo.path / MODEL).unlink()
    repo.git("checkout", "--quiet", MODEL)
    assert (repo.path / MODEL).read_bytes() == merged


def test_a_merge_that_takes_a_tensor_leaves_no_draft(with_history: WithHistory, tmp_path: Path) -> None:
    repo = with_history(_branches)
    norm = 4 * SIZES["norm"]
    repo.write(_checkpoint(4.0)[:-norm] + _checkpoint(1.0)[-norm:])  # as the ancestor's
    repo.commit("norm")
    assert _merged(repo, tmp_path, "true") is None
    assert repo.problems(MODEL, _checkpoint(3.0)[:-norm] + _checkpoint(2.0)[-norm:]) == []


def test_a_draft_that_no_checkout_took_is_removed_by_the_next_merge(with_history: WithHistory, tmp_path: Path) -> None:
    repo = with_history(_branches)
    left = repo.path / ".git/theta/merging/drafts" / "1-2-of-another-boot"
    left.mkdir(parents=True)
    (left / "draft").write_bytes(b"left")
    _merged(repo, tmp_path, "true")
    assert not left.exists()


def test_a_clone_without_parameters_merges(with_history: WithHistory, shared: Repo, tmp_path: Path) -> None:
    repo = with_history(_branches)
    repo.git("push", "--quiet", "origin", "main", "side")
    skipping = {**os.environ, "GIT_THETA_SKIP_SMUDGE": "1"}
    repo.git("clone", "--quiet", "--no-local", str(shared.path), str(tmp_path / "clone"), env=skipping)
    clone = Repo(tmp_path / "clone")
    clone.git("-c", "theta.merge.method=average", "merge", "--quiet", "--no-edit", "origin/side")
    assert clone.problems(MODEL, _checkpoint(3.0)) == []
