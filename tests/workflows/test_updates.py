"""Updates that come beside a checkpoint: applied, found in it, refused, and made."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from adapters import floats, lora_config, lora_tensors, write_adapter
from helpers import ATTENTION, EMBEDDING, MLP, MODEL, Repo, model, safetensors, tensors, values

from git_theta_ext.model.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def one(repo: Repo) -> Repo:
    """Return a repository whose HEAD has the small model of seed 1."""
    repo.write_model(seed=1)
    repo.commit("one")
    return repo


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter", lora_tensors(), lora_config())


def add(repo: Repo, *words: str) -> dict:
    return json.loads(repo.git("theta", "add", "--json", MODEL, *words))["added"][0]


def refused(repo: Repo, *words: str) -> str:
    """Run an add that must fail and leave all as it was; return what it said."""
    before = repo.read(), repo.git("ls-files", "--stage"), repo.git("status", "--porcelain")
    done = repo.run("theta", "add", MODEL, *words, check=False)
    assert done.returncode not in (0, 129), done.stderr
    assert (repo.read(), repo.git("ls-files", "--stage"), repo.git("status", "--porcelain")) == before
    assert [path.name for path in repo.path.iterdir() if path.name.endswith(".theta")] == []
    return done.stderr


def product(name: str, seed: int) -> np.ndarray:
    """Return a matrix of the small model after the adapter, as numpy computes it."""
    module = "base_model.model." + name.removesuffix(".weight")
    left, right = (
        np.frombuffer(lora_tensors()[f"{module}.lora_{side}.weight"][2], "<f4").reshape(shape)
        for side, shape in (("B", (64, 4)), ("A", (4, 64)))
    )
    return np.frombuffer(values(name, seed), "<f4").reshape(64, 64) + np.float32(2) * (left @ right)


def with_values(changed: dict[str, bytes], seed: int = 1) -> bytes:
    content = {name: (kind, shape, changed.get(name, data)) for name, (kind, shape, data) in tensors(seed).items()}
    return safetensors(content, {"format": "pt", "note": "kept to the byte"})


def stored(repo: Repo) -> int:
    return sum(path.stat().st_size for path in (repo.path / ".git/theta/packs").rglob("*") if path.is_file())


def test_lora_is_applied_and_costs_no_more_than_itself(one, adapter):
    before = stored(one)
    result = add(one, "--update", f"lora={adapter}")
    assert result["exact"] == sorted(ATTENTION[:2])
    assert (result["residual"], result["applied_here"], result["changed"]) == ([], True, True)
    new = one.read()
    for name in ATTENTION[:2]:
        expected = product(name, 1).astype("<f4")
        at = model(1).index(values(name, 1))
        found = np.frombuffer(new[at : at + expected.nbytes], "<f4").reshape(64, 64)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)
    assert one.problems(MODEL, new) == ["git status says M  model.safetensors"]
    assert stored(one) - before == result["stored_bytes"] < 1.5 * result["update_bytes"] + 1000
    one.git("commit", "--quiet", "--message", "two")
    assert one.problems(MODEL, new) == []
    one.git("checkout", "--quiet", "HEAD~1")
    assert one.problems(MODEL, model(1)) == []
    one.git("checkout", "--quiet", "main")
    assert one.problems(MODEL, new) == []
    assert "no problems" in one.git("theta", "fsck", "--full")


def test_update_reaches_a_clone(one, adapter, shared, tmp_path):
    add(one, "--update", f"lora={adapter}")
    one.git("commit", "--quiet", "--message", "two")
    one.git("push", "--quiet", "origin", "main")
    one.git("clone", "--quiet", str(shared.path), str(tmp_path / "clone"))
    clone = Repo(tmp_path / "clone")
    assert clone.read() == one.read()
    clone.git("checkout", "--quiet", "HEAD~1")
    assert clone.read() == model(1)


def test_second_run_changes_nothing(one, adapter):
    add(one, "--update", f"lora={adapter}")
    new = one.read()
    result = add(one, "--update", f"lora={adapter}")
    assert (result["applied_here"], result["changed"], result["residual"]) == (False, False, [])
    assert one.read() == new


def test_file_that_was_merged_elsewhere_is_left_as_it_is(one, adapter):
    merged = with_values({name: product(name, 1).astype("<f4").tobytes() for name in ATTENTION[:2]})
    one.write(merged)
    before = stored(one)
    result = add(one, "--update", f"lora={adapter}")
    assert result["applied_here"] is False
    assert sorted(result["residual"] + result["exact"]) == sorted(ATTENTION[:2])
    assert result["residual"] != []
    assert one.read() == merged
    assert stored(one) - before < 16384  # less than one of the two matrices
    one.git("commit", "--quiet", "--message", "two")
    one.git("checkout", "--quiet", "HEAD~1")
    one.git("checkout", "--quiet", "main")
    assert one.problems(MODEL, merged) == []


def test_dry_run_changes_nothing_and_tells_what_would_be_done(one, adapter):
    before, packs, staged = one.read(), stored(one), one.git("ls-files", "--stage")
    result = json.loads(one.git("theta", "add", "--json", "-n", MODEL, "--update", f"lora={adapter}"))
    assert result["details"][0]["exact"] == sorted(ATTENTION[:2])
    assert result["details"][0]["stored_bytes"] is None
    assert (one.read(), stored(one), one.git("ls-files", "--stage")) == (before, packs, staged)


def test_other_changes_in_the_file_are_kept_beside_the_update(one, adapter):
    one.write_model(seed=1, changed={MLP[0]: 5})
    add(one, "--update", f"lora={adapter}")
    assert values(MLP[0], 5) in one.read()
    one.git("commit", "--quiet", "--message", "two")
    new = one.read()
    one.git("checkout", "--quiet", "HEAD~1")
    one.git("checkout", "--quiet", "main")
    assert one.problems(MODEL, new) == []


def test_half_of_an_update_is_refused_with_both_names(one, adapter):
    one.write(with_values({ATTENTION[1]: product(ATTENTION[1], 1).astype("<f4").tobytes()}))
    said = refused(one, "--update", f"lora={adapter}")
    assert ATTENTION[0] in said
    assert ATTENTION[1] in said


def test_changes_that_the_update_does_not_explain_are_refused(one, adapter):
    one.write_model(seed=1, changed={ATTENTION[0]: 2, ATTENTION[1]: 3})
    assert ATTENTION[0] in refused(one, "--update", f"lora={adapter}")


def test_factor_of_zeros_leaves_its_parameter_and_does_not_make_the_update_half(one, tmp_path):
    found = lora_tensors()
    key = "base_model.model." + ATTENTION[0].removesuffix(".weight") + ".lora_B.weight"
    found[key] = ("F32", (64, 4), bytes(1024))
    adapter = write_adapter(tmp_path / "half", found, lora_config())
    add(one, "--update", f"lora={adapter}")
    assert values(ATTENTION[0], 1) in one.read()
    assert add(one, "--update", f"lora={adapter}")["changed"] is False


@pytest.mark.parametrize(
    ("tensors", "config", "named"),
    [
        ({"base_model.model.no.such.lora_A.weight": floats((4, 8))}, {}, "no.such"),
        ({}, {}, "empty"),
        (None, {"use_dora": True}, "DoRA"),
    ],
)
def test_adapter_that_cannot_be_applied_changes_nothing(one, tmp_path, tensors, config, named):
    found = lora_tensors() if tensors is None else tensors
    folder = write_adapter(tmp_path / "bad", found, lora_config(**config))
    assert named in refused(one, "--update", f"lora={folder}")


def test_pickle_is_refused_with_a_way_out(one, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old/adapter_config.json").write_text(json.dumps(lora_config()))
    (tmp_path / "old/adapter_model.bin").write_bytes(b"\x80\x04.")
    assert "safe_serialization" in refused(one, "--update", f"lora={tmp_path / 'old'}")


def test_errors_name_the_update_or_the_checkpoint_and_the_parameter(one, adapter, tmp_path):
    (tmp_path / "sparse").write_bytes(
        safetensors(
            {f"{ATTENTION[0]}.indices": ("I64", (1,), bytes([255] * 8)), f"{ATTENTION[0]}.values": floats((1,))}
        )
    )
    said = refused(one, "--update", f"sparse={tmp_path / 'sparse'}")
    assert f"{tmp_path / 'sparse'}: parameter {ATTENTION[0]!r}" in said
    one.write_model(seed=1, changed={ATTENTION[0]: 2, ATTENTION[1]: 3})
    assert f"{MODEL}: parameter {ATTENTION[0]!r}" in refused(one, "--update", f"lora={adapter}")


def test_what_is_no_file_is_refused_and_not_waited_for(one, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    done = one.run("theta", "add", MODEL, "--update", f"sparse={tmp_path / 'pipe'}", check=False, timeout=60)
    assert "is not a file" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--update", "lora"],
        ["--update", "other=x"],
        ["--update", "lora=/no/such/folder"],
        ["--update", "lora=/no/such/folder", "--atol", "1"],
        ["--update"],
    ],
)
def test_option_that_makes_no_sense_is_refused(one, words):
    assert "error:" in refused(one, *words)


def test_checkpoint_that_was_never_committed_is_refused(repo, adapter):
    repo.write_model(seed=1)
    assert "git commit" in refused(repo, "--update", f"lora={adapter}")


def test_manifest_in_the_place_of_the_file_is_refused(one, adapter):
    one.git("theta", "add", MODEL)
    one.write(one.git("cat-file", "blob", f"HEAD:{MODEL}").encode() + b"\n")
    assert "git theta checkout" in refused(one, "--update", f"lora={adapter}")


def test_locked_index_takes_the_file_back(one, adapter):
    (one.path / ".git/index.lock").touch()
    before = one.read()
    assert one.run("theta", "add", MODEL, "--update", f"lora={adapter}", check=False).returncode == 3
    (one.path / ".git/index.lock").unlink()
    assert one.problems(MODEL, before) in ([], ["git status ran 1 cleans"])


def test_ia3_scales_rows_and_their_bias(one, tmp_path):
    vector = floats((64, 1), 1, 1.0)
    file = tmp_path / "ia3.safetensors"
    file.write_bytes(safetensors({f"{ATTENTION[0]}.scale": vector}))
    result = add(one, "--update", f"ia3={file}")
    assert result["exact"] == [ATTENTION[0]]
    old = np.frombuffer(values(ATTENTION[0], 1), "<f4").reshape(64, 64).astype("f8")
    scaled = (old * np.frombuffer(vector[2], "<f4").reshape(64, 1)).astype("<f4")
    assert one.read() == with_values({ATTENTION[0]: scaled.tobytes()})


def test_sparse_update_sets_elements(one, tmp_path):
    places = np.array([5, 700], "<i8")
    file = tmp_path / "sparse.safetensors"
    given = floats((2,), 3)
    file.write_bytes(
        safetensors({f"{EMBEDDING}.indices": ("I64", (2,), places.tobytes()), f"{EMBEDDING}.values": given})
    )
    before = stored(one)
    add(one, "--update", f"sparse={file}")
    expected = np.frombuffer(values(EMBEDDING, 1), "<f4").copy()
    expected[places] = np.frombuffer(given[2], "<f4")
    assert one.read() == with_values({EMBEDDING: expected.tobytes()})
    assert stored(one) - before < 1000


def test_compressed_difference_is_applied_and_costs_about_the_file(one, tmp_path):
    rng = np.random.default_rng(7)
    old = np.frombuffer(values(EMBEDDING, 1), "<f4")
    tuned = tmp_path / "tuned.safetensors"
    tuned.write_bytes(with_values({EMBEDDING: (old + rng.normal(0, 1e-3, old.size)).astype("<f4").tobytes()}))
    file = tmp_path / "tuned.compeft"
    words = (
        "theta",
        "compress",
        "--compeft",
        "--density",
        "0.1",
        f"HEAD:{MODEL}",
        str(tuned),
        "-o",
        str(file),
        "--json",
    )
    assert "lossy" in one.run(*words[:-1]).stderr
    result = json.loads(one.git(*words))
    assert (result["lossy"], result["left_out"]) == (True, [])
    assert result["kept"] == round(0.1 * result["elements"])
    assert 0 < result["cosine"] < 1
    assert result["groups"] != []
    again = tmp_path / "again.compeft"
    one.run(*[str(again) if word == str(file) else word for word in words])
    assert again.read_bytes() == file.read_bytes()
    before = stored(one)
    added = add(one, "--update", f"compeft={file}")
    assert added["exact"] == [EMBEDDING]
    assert stored(one) - before < 1.1 * file.stat().st_size + 1000
    new = one.read()
    moved = np.frombuffer(new[new.index(values(ATTENTION[0], 1)) - old.nbytes :][: old.nbytes], "<f4") - old
    np.testing.assert_allclose(np.abs(moved[moved != 0]), result["scale"], rtol=1e-3)
    assert np.count_nonzero(moved) == result["kept"]
    one.git("commit", "--quiet", "--message", "two")
    one.git("checkout", "--quiet", "HEAD~1")
    one.git("checkout", "--quiet", "main")
    assert one.problems(MODEL, new) == []


@pytest.mark.parametrize("words", [["--density", "0"], ["--density", "1.1"], ["--density", "0.1", "--alpha", "nan"]])
def test_compress_refuses_what_makes_no_sense(one, tmp_path, words):
    (tmp_path / "new.safetensors").write_bytes(model(2))
    new, out = str(tmp_path / "new.safetensors"), tmp_path / "x.compeft"
    done = one.run("theta", "compress", "--compeft", *words, f"HEAD:{MODEL}", new, "-o", str(out), check=False)
    assert done.returncode == 2
    assert not out.exists()


def test_compress_refuses_models_with_other_parameters_or_without_a_difference(one, tmp_path):
    (tmp_path / "other.safetensors").write_bytes(safetensors({EMBEDDING: tensors(1)[EMBEDDING]}))
    shutil.copy(one.path / MODEL, tmp_path / "same.safetensors")
    for name, words in (("other", "same element type and shape"), ("same", "nothing to compress")):
        file = str(tmp_path / f"{name}.safetensors")
        done = one.run(
            "theta", "compress", "--compeft", "--density", "0.1", MODEL, file, "-o", str(tmp_path / "x"), check=False
        )
        assert done.returncode == 2
        assert words in done.stderr
    assert not (tmp_path / "x").exists()


def test_manifest_says_nothing_of_updates(one, adapter):
    add(one, "--update", f"lora={adapter}")
    staged = one.git("cat-file", "blob", f":{MODEL}").encode() + b"\n"
    shutil.rmtree(one.path / ".git/theta")
    one.git("update-index", "--force-remove", MODEL)
    one.git("add", MODEL)
    assert one.git("cat-file", "blob", f":{MODEL}").encode() + b"\n" == staged
    assert Manifest.parse(staged).to_bytes() == staged


def _shards(repo: Repo, cut: int) -> None:
    names = sorted(tensors(1))
    for number, part in ((1, names[:cut]), (2, names[cut:])):
        content = {name: tensors(1)[name] for name in part}
        repo.write(safetensors(content), f"run/model-0000{number}-of-00002.safetensors")


def test_an_update_of_a_model_changes_the_shards_that_hold_its_parameters(repo, adapter):
    names = sorted(tensors(1))
    between = names.index(ATTENTION[1])
    assert ATTENTION[0] in names[:between]
    _shards(repo, between)
    repo.write(safetensors({"step": ("F32", (1,), bytes(4))}), "run/optimizer.safetensors")
    repo.commit("shards")
    before = {path.name: path.read_bytes() for path in (repo.path / "run").iterdir()}
    planned = json.loads(repo.git("theta", "add", "--json", "--dry-run", "run", "--update", f"lora={adapter}"))
    assert len(planned["details"]) == 2
    done = json.loads(repo.git("theta", "add", "--json", "run", "--update", f"lora={adapter}"))["added"]
    exact = {item["path"]: item["exact"] for item in done if "exact" in item}
    assert exact == {
        "run/model-00001-of-00002.safetensors": [ATTENTION[0]],
        "run/model-00002-of-00002.safetensors": [ATTENTION[1]],
    }
    lines = repo.git("theta", "diff", "--cached").splitlines()
    assert lines[1].startswith("2 modified, 12 unchanged")
    assert repo.read("run/optimizer.safetensors") == before["optimizer.safetensors"]
    repo.git("restore", "--staged", "--worktree", "run")
    _shards(repo, between + 1)  # HEAD's parameters are found in whichever file it has them
    moved = json.loads(repo.git("theta", "add", "--json", "run", "--update", f"lora={adapter}"))["added"]
    assert [item["exact"] for item in moved if "exact" in item] == [sorted(ATTENTION[:2])]
    repo.write_model("run/other.safetensors")
    done = repo.run("theta", "add", "run/o*", "--update", f"lora={adapter}", check=False)
    assert "--update takes one model, and not run/optimizer.safetensors, run/other.safetensors" in done.stderr
