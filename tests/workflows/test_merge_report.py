"""``git theta merge --report`` measures what a merge did."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import ATTENTION, EMBEDDING, MODEL, SPECS, Repo, WithHistory, safetensors, tensors

if TYPE_CHECKING:
    from pathlib import Path

OURS, THEIRS = np.tile([3.0, 0, 1, 0], 1024), np.tile([3.0, 4, -1, 0], 1024)


def written(repo: Repo, moved: np.ndarray | None, **others: int) -> None:
    """Write the small model, in which one tensor is 10 everywhere and moved by something."""
    content = tensors(1, others)
    for name in ATTENTION[:2]:
        values = np.full(4096, 10.0) + (0 if moved is None else moved)
        content[name] = (*SPECS[name], values.astype("<f4").tobytes())
    repo.write(safetensors(content))


def _merged(repo: Repo) -> None:
    written(repo, None)
    repo.commit("base")
    repo.switch("-b", "side")
    written(repo, THEIRS)
    repo.commit("side")
    repo.switch("main")
    written(repo, OURS, **{"encoder.layer.3.norm.bias": 2})
    repo.commit("main")
    words = ["-X", "method=ties", "-X", "scope=tensor", "-X", "density=0.3", "-X", "ties=original"]
    repo.git("merge", "--quiet", "-s", "theta", *words, "side")


@pytest.fixture
def merged(with_history: WithHistory) -> Repo:
    """Return a repository whose last commit merged by TIES, at a density that keeps the largest three of eight."""
    return with_history(_merged)


def test_every_measure_has_its_meaning(merged: Repo) -> None:
    (report,) = json.loads(merged.git("theta", "merge", "--report", "--json"))["reports"]
    assert (report["path"], report["taken"], report["method"]) == (MODEL, {"ours": 1}, "ties")
    (group,) = report["groups"]
    assert group["label"] == "encoder.layer.{0-1}.attention.weight"
    assert group["parameters"] == ATTENTION[:2]
    assert group["sides"] == ["ours", "theirs"]
    assert group["elements"] == 8192
    np.testing.assert_allclose(group["distance"], [np.sqrt(10 / 400), np.sqrt(26 / 400)])
    assert group["moved"] == [0.5, 0.75]
    # Of ours 1 and 3 moved; the largest 30 % begin within the ones, of which all that are equal stay.
    assert group["trimmed"] == [0.0, pytest.approx(1 / 3)]
    assert group["agreement"] == 0.5
    assert group["cosines"][0]["cosine"] == pytest.approx((9 - 1) / np.sqrt(10 * 26))
    # 3, 4 and 1 are merged: the last one has only our vote.
    assert group["energy"] == pytest.approx((9 + 16 + 1) / 18)
    assert group["unmoved"] == 0


def test_text_has_a_line_for_each_group_and_a_page_holds_the_same(merged: Repo, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    text = merged.git("theta", "merge", "--report", "--html", str(page), "HEAD")
    assert text.splitlines()[0].endswith("1 taken from ours, 2 parameters by ties")
    label, figures = text.splitlines()[2:4]
    assert label == "  encoder.layer.{0-1}.attention.weight (2)"
    assert figures.startswith("    ties    ours 15.8 %, theirs 25.5 %  0 %, 33.3 %  50 %")
    html = page.read_text()
    assert html.startswith("<!doctype html>")
    for words in (
        "encoder.<wbr>layer.<wbr>1.<wbr>attention.<wbr>weight</td>",
        "ours 15.8 %, theirs 25.5 %",
        '<meter value="0.5"',
    ):
        assert words in html


def _resolved(repo: Repo) -> None:
    for branch, seed in (("main", 1), ("side", 2), ("main", 3)):
        repo.switch(*(["-b"] if branch == "side" else []), branch)
        content = tensors(1, {EMBEDDING: seed, "position_ids": seed})
        repo.write(safetensors(content | {"<script>x": ("F32", (2,), np.full(2, seed, "<f4").tobytes())}))
        repo.commit(branch)
    repo.run("merge", "side", check=False)
    repo.git("theta", "resolve", "--method", "theirs", MODEL)
    repo.git("commit", "--quiet", "--no-edit")


@pytest.fixture
def resolved(with_history: WithHistory) -> Repo:
    """Return a repository whose last commit merged by the mean, and in which integers were chosen."""
    return with_history(_resolved)


def test_names_cannot_break_out_of_the_page(resolved: Repo, tmp_path: Path) -> None:
    resolved.git("theta", "merge", "--report", "--html", str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page


def test_resolved_conflicts_and_what_cannot_be_compared_are_listed(resolved: Repo) -> None:
    (report,) = json.loads(resolved.git("theta", "merge", "--report", "--json"))["reports"]
    groups = {group["label"]: group for group in report["groups"]}
    assert groups[EMBEDDING]["method"] == "average"
    assert groups["position_ids"]["method"] == "resolved"
    assert "agreement" not in groups["position_ids"]


def test_mistakes_are_named(merged: Repo) -> None:
    for args, words in (
        (["--report", "-X", "a=b"], "-X needs --plan"),
        (["--plan", "--html", "x", "side"], "--html needs --report"),
    ):
        done = merged.run("theta", "merge", *args, check=False)
        assert done.returncode == 2
        assert words in done.stderr
