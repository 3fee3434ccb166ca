"""Models that llama-gguf-split divides: one model, also if a branch divides it otherwise."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

import git_theta_ext

if TYPE_CHECKING:
    from collections.abc import Sequence

    from helpers import Repo, WithHistory

TENSORS = {f"blk.{number}.w": np.arange(64, dtype="<f4") + number for number in range(4)}


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def _file(names: Sequence[str], number: int, count: int, changed: dict[str, float]) -> bytes:
    pairs = [
        _text("split.no") + struct.pack("<IH", 2, number),
        _text("split.count") + struct.pack("<IH", 2, count),
        _text("split.tensors.count") + struct.pack("<Ii", 5, len(TENSORS)),
    ]
    rows = b"".join(
        _text(name) + struct.pack("<IQIQ", 1, 64, 0, place * TENSORS[name].nbytes) for place, name in enumerate(names)
    )
    head = b"GGUF" + struct.pack("<IQQ", 3, len(names), len(pairs)) + b"".join(pairs) + rows
    return (
        head + bytes(-len(head) % 32) + b"".join((TENSORS[n] + np.float32(changed.get(n, 0))).tobytes() for n in names)
    )


def _write(repo: Repo, cuts: Sequence[int], message: str, **changed: float) -> None:
    for path in (repo.path / "run").glob("*.gguf"):
        path.unlink()
    names = list(TENSORS)
    bounds = list(zip([0, *cuts], [*cuts, len(names)], strict=True))
    for number, (start, end) in enumerate(bounds):
        part = f"run/m-{number + 1:05}-of-{len(bounds):05}.gguf"
        repo.write(_file(names[start:end], number, len(bounds), {f"blk.{n}.w": v for n, v in _numbers(changed)}), part)
    repo.git("add", "--all")
    repo.commit(message)


def _numbers(changed: dict[str, float]) -> list[tuple[str, float]]:
    return [(name.removeprefix("w"), value) for name, value in changed.items()]


def _divided(repo: Repo) -> None:
    repo.git("init", "--quiet")
    repo.git("theta", "track", "*.gguf")
    _write(repo, [2], "first")
    repo.git("branch", "side")
    _write(repo, [1, 3], "divided otherwise", w0=1)
    repo.switch("side")
    _write(repo, [2], "trained", w0=3, w3=5)


def test_branch_that_divides_and_branch_that_trains_are_merged(with_history: WithHistory) -> None:
    repo = with_history(_divided)
    assert "parameters moved between files (3 -> 2 files)" in repo.git("theta", "diff", "main", "side")
    repo.git("-c", "theta.merge.method=average", "merge", "--quiet", "--no-edit", "-s", "theta", "main")
    assert sorted(path.name for path in (repo.path / "run").iterdir()) == [f"m-{n:05}-of-00003.gguf" for n in (1, 2, 3)]
    merged = {**TENSORS, "blk.0.w": TENSORS["blk.0.w"] + 2, "blk.3.w": TENSORS["blk.3.w"] + 5}
    loaded = git_theta_ext.load("HEAD:run", repository=repo.path)
    assert {name: bool((loaded[name].numpy() == merged[name]).all()) for name in merged} == dict.fromkeys(merged, True)
    assert struct.pack("<IH", 2, 3) in repo.read("run/m-00003-of-00003.gguf")
    assert not repo.git("status", "--porcelain")
