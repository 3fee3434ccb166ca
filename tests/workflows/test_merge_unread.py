"""Merges for which values were missing or damaged are repeated with the same result once the values are back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import MODEL, Repo, WithHistory, safetensors

from git_theta_ext.git.repository import Repository
from git_theta_ext.model.manifest import Manifest
from git_theta_ext.operations.merge.record import records_of
from git_theta_ext.store.store import Store

ELEMENTS = 1 << 17
KINDS = {"F16": np.float16, "F32": np.float32}


def write(repo: Repo, **content: tuple[float, str]) -> None:
    """Write a model; each parameter is given by its value and its type."""
    repo.write(
        safetensors(
            {
                name: (kind, (ELEMENTS,), np.full(ELEMENTS, value, KINDS[kind]).tobytes())
                for name, (value, kind) in content.items()
            }
        )
    )


def _both(repo: Repo) -> None:
    write(repo, b=(1, "F16"))
    repo.git("add", MODEL)  # so that the pack of a does not have b
    write(repo, a=(0, "F16"), b=(1, "F16"))
    repo.commit("base")
    repo.git("branch", "wide")
    repo.git("checkout", "--quiet", "-b", "side")
    write(repo, a=(4, "F16"), b=(5, "F16"))
    repo.commit("side")
    repo.git("checkout", "--quiet", "wide")
    write(repo, a=(0, "F32"), b=(6, "F16"))
    repo.commit("wide")
    repo.git("checkout", "--quiet", "main")
    write(repo, a=(2, "F16"), b=(3, "F16"))
    repo.commit("ours")


@pytest.fixture
def both(with_history: WithHistory) -> Repo:
    """Return a repository whose ``main`` and ``side`` changed ``a`` and ``b``; ``wide`` has ``a`` as float32."""
    return with_history(_both)


def pack_of(repo: Repo, rev: str, name: str) -> Path:
    manifest = Manifest.parse(repo.git("cat-file", "blob", f"{rev}:{MODEL}").encode() + b"\n")
    store = Store(repo.path / ".git" / "theta")
    digest = manifest.parameters[name].digest
    path = store.blobs([digest])[digest].path
    store.close()
    return path


def lose(repo: Repo, path: Path) -> Callable[[], object]:
    aside = repo.path.parent / path.name
    path.rename(aside)
    return lambda: aside.rename(path)


def damage(repo: Repo, path: Path) -> Callable[[], object]:
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:-9] + bytes(9))

    def restore() -> None:
        path.write_bytes(content)
        (repo.path / ".git/theta/index.sqlite3").unlink()

    return restore


Harm = Callable[[Repo, Path], Callable[[], object]]


def merge(repo: Repo, method: str, *words: str) -> list[str]:
    """Merge a branch, and return the parameters in conflict."""
    done = repo.run("-c", f"theta.merge.method={method}", "merge", *words, check=False)
    assert done.returncode == 1
    return [conflict.name for conflict in Manifest.parse(repo.read()).conflicts]


def recorded(repo: Repo) -> dict[str, Any]:
    repo.git("commit", "--quiet", "--no-edit")
    (record,) = records_of(Repository.discover(repo.path), "HEAD")
    return json.loads(record.to_json())


def differing(repo: Repo) -> list[str]:
    (replayed,) = json.loads(repo.run("theta", "merge", "--json", "--replay", check=False).stdout)["replays"]
    return replayed["differing"]


@pytest.mark.parametrize(("harm", "strategy"), [(lose, []), (damage, ["-s", "theta"])])
def test_a_merge_that_lacked_a_value_is_replayed_whether_or_not_it_is_back(
    both: Repo, harm: Harm, strategy: list[str]
) -> None:
    restore = harm(both, pack_of(both, "main~", "a"))
    assert merge(both, "apply", *strategy, "side") == ["a"]
    both.git("theta", "resolve", "--method", "ours", MODEL)
    assert recorded(both)["unread"] == ["a"]
    assert differing(both) == []
    restore()
    assert differing(both) == []


def test_a_resolution_that_lacked_a_value_is_replayed(both: Repo) -> None:
    restore = lose(both, pack_of(both, "main~", "a"))
    assert merge(both, "conflict", "side") == ["a", "b"]
    assert both.run("theta", "resolve", "--method", "apply", MODEL, check=False).returncode == 1
    done = both.run("theta", "mergetool", MODEL, input="t\n")
    assert "cannot measure a: " in done.stderr
    assert [step.get("unread") for step in recorded(both)["resolved"]] == [["a"], None]
    restore()
    assert differing(both) == []


def test_a_merge_that_could_not_compare_element_types_is_replayed(both: Repo) -> None:
    restore = lose(both, pack_of(both, "main~", "a"))
    assert merge(both, "apply", "wide") == ["a"]
    both.git("theta", "resolve", "--method", "ours", MODEL)
    assert recorded(both)["unread_types"] == ["a"]
    restore()
    assert differing(both) == []
