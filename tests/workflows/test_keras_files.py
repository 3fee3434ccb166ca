"""Archives of Keras, as its saving writes them: merged by weight, with right checksums."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

if TYPE_CHECKING:
    from helpers import Repo, WithHistory

PATH = "model.keras"
KERNEL = "layers/dense/vars/0"
BIAS = "layers/dense/vars/1"


def _archive(saved: str, **changed: float) -> bytes:
    weights, file = io.BytesIO(), io.BytesIO()
    with h5py.File(weights, "w") as h5:
        for number, name in enumerate((KERNEL, BIAS, "optimizer/vars/0")):
            h5[name] = np.arange(600, dtype="f4").reshape(20, 30) + number + changed.get(name, 0)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.12.0", "date_saved": saved}))
        archive.writestr("config.json", '{"class_name": "Sequential"}')
        archive.writestr("model.weights.h5", weights.getvalue())
    return file.getvalue()


def _weights(data: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as h5:
            return {name: h5[name][()] for name in (KERNEL, BIAS)}


def _tracked(repo: Repo) -> None:
    repo.git("init", "--quiet")
    repo.git("theta", "track", "*.keras")


@pytest.mark.parametrize("method", ["", "average"])
def test_branches_that_trained_are_merged_by_weight(with_history: WithHistory, method: str) -> None:
    repo = with_history(_tracked)
    repo.write(_archive("2026-01-01@10:00:00"), PATH)
    if method:
        (repo.path / ".thetamerge").write_text(f"version: 1\ndefaults:\n  method: {method}\n")
    repo.commit("first")
    repo.git("branch", "side")
    ours = {KERNEL: 0.5} if not method else {KERNEL: 1.0, BIAS: 4.0}
    theirs = {BIAS: 0.25} if not method else {KERNEL: 3.0, BIAS: 4.0}
    repo.write(_archive("2026-01-02@10:00:00", **ours), PATH)
    diff = repo.git("diff")
    assert f"{len(ours)} modified, {3 - len(ours)} unchanged" in diff
    repo.commit("ours")
    repo.switch("side")
    repo.write(_archive("2026-01-03@10:00:00", **theirs), PATH)
    repo.commit("theirs")
    repo.git("merge", "--quiet", "--no-edit", "main")
    merged, first = _weights(repo.read(PATH)), _weights(_archive(""))
    assert (merged[KERNEL] == first[KERNEL] + (2 if method else 0.5)).all()
    assert (merged[BIAS] == first[BIAS] + (4 if method else 0.25)).all()
    assert not repo.git("status", "--porcelain")
