"""Changes too small to keep are set back on request, and never otherwise."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import ATTENTION, EMBEDDING, MLP, MODEL, Repo, model, safetensors, tensors, values


@pytest.fixture
def one(repo: Repo) -> Repo:
    """Return a repository whose HEAD has the small model of seed 1."""
    repo.write_model(seed=1)
    repo.commit("one")
    return repo


def nudged(name: str, by: float) -> bytes:
    array = np.frombuffer(values(name, 1), "<f4").astype("f8")
    return (array + by).astype("<f4").tobytes()


def write(repo: Repo, changed: dict[str, bytes]) -> bytes:
    content = {name: (kind, shape, changed.get(name, data)) for name, (kind, shape, data) in tensors(1).items()}
    data = safetensors(content, {"format": "pt", "note": "kept to the byte"})
    repo.write(data)
    return data


def add(repo: Repo, *words: str) -> dict:
    return json.loads(repo.git("theta", "add", "--json", *words, MODEL))


def test_parameters_within_the_tolerance_are_set_back_in_the_file_too(one):
    write(one, {EMBEDDING: nudged(EMBEDDING, 1e-7), ATTENTION[0]: nudged(ATTENTION[0], 1e-3)})
    result = add(one, "--atol", "1e-6")["added"][0]
    assert result["snapped"] == [EMBEDDING]
    new = one.read()
    assert values(EMBEDDING, 1) in new
    assert nudged(ATTENTION[0], 1e-3) in new
    one.git("commit", "--quiet", "--message", "two")
    assert one.problems(MODEL, new) == []
    one.git("checkout", "--quiet", "HEAD~1")
    assert one.read() == model(1)
    one.git("checkout", "--quiet", "main")
    assert one.problems(MODEL, new) == []


def test_file_in_which_all_is_set_back_is_unchanged_to_git(one):
    write(one, {EMBEDDING: nudged(EMBEDDING, 1e-7)})
    result = add(one, "--atol", "1e-6")["added"][0]
    assert (result["snapped"], result["changed"]) == ([EMBEDDING], False)
    assert one.problems(MODEL, model(1)) == []


def test_nothing_is_set_back_unless_asked_for(one):
    new = write(one, {EMBEDDING: nudged(EMBEDDING, 1e-7)})
    result = add(one)["added"][0]
    assert "snapped" not in result
    assert result["changed"] is True
    assert one.read() == new


def test_tolerance_may_be_relative(one):
    array = np.frombuffer(values(EMBEDDING, 1), "<f4").astype("f8")
    write(one, {EMBEDDING: (array * (1 + 1e-6)).astype("<f4").tobytes()})
    assert add(one, "-n", "--rtol", "1e-8")["details"][0]["snapped"] == []
    assert add(one, "-n", "--rtol", "1e-5")["details"][0]["snapped"] == [EMBEDDING]


def test_integers_are_kept_however_little_they_moved(one):
    new = write(one, {"position_ids": values("position_ids", 2)})
    assert add(one, "--atol", "100")["added"][0]["snapped"] == []
    assert one.read() == new


def test_dry_run_changes_nothing(one):
    new = write(one, {EMBEDDING: nudged(EMBEDDING, 1e-7), MLP[0]: values(MLP[0], 2)})
    before = one.git("ls-files", "--stage")
    assert add(one, "-n", "--atol", "1e-6")["details"] == [{"path": MODEL, "snapped": [EMBEDDING]}]
    assert (one.read(), one.git("ls-files", "--stage")) == (new, before)
    assert "1 of 2 changed parameters reverted" in one.git("theta", "add", "-n", "--atol", "1e-6", MODEL)


def test_values_of_the_committed_version_count_not_those_staged(one):
    write(one, {EMBEDDING: nudged(EMBEDDING, 1e-7)})
    one.git("add", MODEL)
    assert add(one, "--atol", "1e-6")["added"][0]["snapped"] == [EMBEDDING]
    assert one.problems(MODEL, model(1)) == []


def test_first_version_is_taken_as_it_is(repo):
    data = repo.write_model(seed=1)
    assert add(repo, "--atol", "1")["added"][0]["snapped"] == []
    assert repo.read() == data


def test_executable_file_stays_executable(one):
    write(one, {EMBEDDING: nudged(EMBEDDING, 1e-7)})
    (one.path / MODEL).chmod(0o755)
    add(one, "--atol", "1e-6")
    assert (one.path / MODEL).stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("words", [["--atol", "-1"], ["--atol", "nan"], ["--rtol", "inf"], ["--atol", "much"]])
def test_tolerance_that_is_none_is_refused(one, words):
    assert one.run("theta", "add", *words, MODEL, check=False).returncode == 2
