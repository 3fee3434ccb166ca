"""Quantised weights of several exporters in one model: merged, shown and resolved as units."""

from __future__ import annotations

import json
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import MODEL, Repo, WithHistory, safetensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    Part = tuple[str, tuple[int, ...]]
    Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]

GPTQ = {
    "qweight": ("I32", (16, 256)),
    "qzeros": ("I32", (1, 32)),
    "scales": ("F16", (1, 256)),
    "g_idx": ("I32", (128,)),
}
HQQ = {"W_q": ("U8", (256, 64)), "scale": ("F16", (512, 1)), "zero": ("F16", (512, 1))}
PLAIN = {"weight": ("BF16", (256, 128))}
WIDTHS = {"I32": 4, "F16": 2, "U8": 1, "BF16": 2}


def layer(number: int, seed: int, parts: Mapping[str, Part] = GPTQ) -> Tensors:
    made: Tensors = {}
    for place, (name, (kind, shape)) in enumerate(parts.items()):
        numbers = np.random.default_rng([number, seed, place]).integers(1, 100, WIDTHS[kind] * int(np.prod(shape)))
        made[f"layers.{number}.up_proj.{name}"] = (kind, shape, numbers.astype("u1").tobytes())
    return made


def together(*layers: Tensors) -> bytes:
    return safetensors(reduce(dict.__or__, layers))


BASE = together(*(layer(n, 1) for n in range(4)))
SCALES = {"layers.1.up_proj.scales": layer(1, 5)["layers.1.up_proj.scales"]}
OURS = together(layer(0, 2), layer(1, 1) | SCALES, layer(2, 1), layer(3, 1))
THEIRS = together(layer(0, 3), layer(1, 1), layer(2, 3, HQQ), layer(3, 3, PLAIN))


def _quantised(repo: Repo) -> None:
    for branch, data in (("main", BASE), ("side", THEIRS), ("main", OURS)):
        repo.switch(*(["-b"] if branch == "side" else []), branch)
        repo.write(data)
        repo.commit(branch)


@pytest.fixture
def quantised(with_history: WithHistory) -> Repo:
    """Return a repository in which both branches changed a weight, and each others that it quantised anew."""
    return with_history(_quantised)


def test_a_unit_has_one_row_wherever_it_is_shown(quantised: Repo) -> None:
    diff = quantised.git("theta", "diff", "main~1", "side")
    assert "~ layers.0.up_proj  gptq, 4 bits             modified" in diff
    assert "~ layers.2.up_proj  gptq, 4 bits -> hqq, U8  modified" in diff
    assert "~ layers.3.up_proj  gptq, 4 bits -> BF16     modified" in diff
    plan = quantised.run("theta", "merge", "--plan", "side", check=False).stdout
    assert "layers.1.up_proj  gptq, 4 bits  changed by ours" in plan
    assert "layers.2.up_proj  gptq, 4 bits or hqq, U8  changed by theirs" in plan
    assert "layers.0.up_proj\n      gptq, 4 bits  part of a quantised weight that ours and theirs changed" in plan
    (planned,) = json.loads(quantised.run("theta", "merge", "--plan", "--json", "side", check=False).stdout)["plans"]
    assert [unit["name"] for unit in planned["units"]] == [f"layers.{n}.up_proj" for n in range(4)]
    assert {row["unit"] for row in planned["parameters"]} == {f"layers.{n}.up_proj" for n in range(4)}
    shown = quantised.git("theta", "show", f"side:{MODEL}", "layers.2.up_proj")
    assert shown.splitlines()[0] == "layers.2.up_proj (hqq, U8)"
    assert shown.count("layers.2.up_proj.") == 3


def test_a_unit_is_resolved_by_its_name_and_comes_from_one_side(quantised: Repo) -> None:
    assert quantised.run("merge", "side", check=False).returncode == 1
    assert "! layers.0.up_proj (gptq, 4 bits): part of" in quantised.git("theta", "diff", "HEAD")
    listed = quantised.run("theta", "resolve", MODEL, check=False).stdout
    assert "  layers.0.up_proj, 4 parameters  (part of a quantised weight that ours and theirs changed" in listed
    asked = quantised.run("theta", "mergetool", MODEL, check=False, input="k\n").stderr
    assert "layers.0.up_proj (gptq, 4 bits)   (1 group to go)" in asked
    refused = quantised.run("theta", "resolve", "-m", "average", MODEL, "layers.0.up_proj", check=False)
    assert "part of a quantised weight (gptq, 4 bits), which no method merges" in refused.stderr
    quantised.git("theta", "resolve", "-m", "theirs", MODEL, "layers.0.up_proj")
    merged = together(layer(0, 3), layer(1, 1) | SCALES, layer(2, 3, HQQ), layer(3, 3, PLAIN))
    assert sorted(_tensors(quantised.read())) == sorted(_tensors(merged))
    quantised.git("commit", "--quiet", "--no-edit")
    assert "layers.0.up_proj (gptq, 4 bits) (4)" in quantised.git("theta", "merge", "--report")


def _tensors(data: bytes) -> list[tuple[str, bytes]]:
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    spans = {name: entry["data_offsets"] for name, entry in header.items()}
    return [(name, data[start + begin : start + end]) for name, (begin, end) in spans.items()]


def test_the_parts_of_a_weight_in_several_shards_are_one(repo: Repo) -> None:
    names = [f"model-{n:05}-of-00002.safetensors" for n in (1, 2)]

    def write(numbers: Tensors, scales: Tensors) -> None:
        halves = [{name: part for name, part in numbers.items() if "qweight" in name}, dict(scales)]
        halves[1] = {name: part for name, part in halves[1].items() if "qweight" not in name}
        for name, half in zip(names, halves, strict=True):
            repo.write(safetensors(half), name)

    for branch, numbers, scales in (("main", 1, 1), ("side", 3, 3), ("main", 2, 1)):
        repo.switch(*(["-b"] if branch == "side" else []), branch)
        write(layer(0, numbers), layer(0, scales))
        repo.commit(branch)
    assert repo.run("merge", "-s", "theta", "side", check=False).returncode == 1
    listed = repo.run("theta", "resolve", check=False).stdout
    assert "  layers.0.up_proj, 4 parameters  (part of a quantised weight that ours and theirs changed" in listed
    repo.git("theta", "resolve", "-m", "theirs", names[1], "layers.0.up_proj.scales")
    assert repo.read(names[0]) == safetensors({k: v for k, v in layer(0, 3).items() if "qweight" in k})
    assert repo.read(names[1]) == safetensors({k: v for k, v in layer(0, 3).items() if "qweight" not in k})


def test_parts_in_files_that_each_side_changed_alone_are_reported(with_history: WithHistory) -> None:
    files = [f"run/model-0000{number}-of-00002.safetensors" for number in (1, 2)]

    def write(repo: Repo, seeds: tuple[int, int], message: str) -> None:
        for path, seed, integers in zip(files, seeds, (True, False), strict=True):
            parts = {name: part for name, part in layer(0, seed).items() if name.endswith("qweight") is integers}
            repo.write(safetensors(parts), path)
        repo.commit(message)

    def make(repo: Repo) -> None:
        write(repo, (1, 1), "base")
        repo.git("branch", "side")
        write(repo, (2, 1), "ours")
        repo.switch("side")
        write(repo, (1, 3), "theirs")
        repo.switch("main")

    repo = with_history(make)
    merged = repo.run("merge", "--no-edit", "side")
    assert "run/model.safetensors: layers.0.up_proj has parts of both sides" in merged.stderr
    side = repo.git("rev-parse", "--short=12", "side")
    assert f"git reset --merge ORIG_HEAD && git merge -s theta {side}" in merged.stderr
    repo.git("reset", "--quiet", "--merge", "ORIG_HEAD")
    assert repo.run("merge", "-s", "theta", "side", check=False).returncode == 1
    assert "layers.0.up_proj" in repo.run("theta", "resolve", "run", check=False).stdout
