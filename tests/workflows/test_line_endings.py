"""autocrlf, renormalize and other settings that rewrite text."""

from __future__ import annotations

import pytest
from helpers import ATTENTION, MODEL, Repo, model


@pytest.mark.parametrize("setting", ["true", "input"])
def test_autocrlf_changes_neither_manifest_nor_file(two: Repo, setting: str) -> None:
    two.git("config", "core.autocrlf", setting)
    two.git("checkout", "--quiet", "one")
    assert two.problems(MODEL, model(1)) == []
    two.write_model(seed=3)
    two.commit("three", by_filter=True)
    assert "\r" not in two.git("cat-file", "blob", f"HEAD:{MODEL}")


def test_renormalize_finds_nothing_to_do(two: Repo) -> None:
    two.git("add", "--renormalize", ".")
    assert two.git("status", "--porcelain") == ""
    assert two.read() == model(2)


def test_renormalize_turns_a_raw_checkpoint_into_a_manifest(two: Repo) -> None:
    data = two.write_model("old.weights", seed=4)
    two.commit("raw")
    two.git("theta", "track", "*.weights")
    two.git("add", "--renormalize", ".")
    two.commit("tracked")
    assert two.git("cat-file", "blob", "HEAD:old.weights").startswith("git-theta manifest 1\n")
    assert two.problems("old.weights", data) == []


def test_merge_with_renormalize(forked: Repo) -> None:
    forked.git("config", "merge.renormalize", "true")
    forked.git("merge", "--quiet", "side")
    assert forked.problems(MODEL, model(1, {ATTENTION[0]: 2, ATTENTION[1]: 3})) == []


def test_hash_object_with_a_path_hashes_the_stream_and_not_the_file(two: Repo) -> None:
    other = two.path.parent / "other.safetensors"
    other.write_bytes(model(5))
    with other.open("rb") as stream:
        found = two.git("hash-object", "-w", "--stdin", "--path", MODEL, stdin=stream)
    two.write(model(5), "five.safetensors")
    two.git("add", "five.safetensors")
    assert two.git("rev-parse", ":five.safetensors") == found
    assert found != two.git("rev-parse", f":{MODEL}")
