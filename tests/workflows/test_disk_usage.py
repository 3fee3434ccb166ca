"""What git theta du says of a repository's bytes."""

from __future__ import annotations

import json
import os

import pytest
from helpers import ATTENTION, MODEL, SPECS, Repo, model

from git_theta_ext.cli.commands.du import _times


def usage(repo: Repo, *options: str) -> dict[str, object]:
    return json.loads(repo.git("theta", "du", "--json", *options))


def on_disk(repo: Repo) -> int:
    return sum(path.stat().st_size for path in (repo.path / ".git/theta/packs").rglob("*") if path.is_file())


def test_versions_are_reported_with_what_they_added(two: Repo) -> None:
    two.write_model(seed=2, changed={ATTENTION[0]: 3})
    two.commit("three")
    result = usage(two)
    first, second, third = result["versions"]
    assert [version["commit"] for version in result["versions"]] == [
        two.git("rev-parse", rev) for rev in ("one", "two", "main")
    ]
    assert first["raw"] == second["raw"] == third["raw"]
    assert first["new"]["tensors"] == len(SPECS) + 1
    assert (third["new"]["tensors"], third["new"]["raw"]) == (1, 64 * 64 * 4)
    assert result["stored_bytes"] == sum(version["new"]["stored"] for version in result["versions"])
    assert result["stored_bytes"] + result["disk"]["heads"] == result["disk"]["total"] == on_disk(two)


def test_every_table_has_the_same_sum(two: Repo) -> None:
    result = usage(two)
    for table in ("encodings", "groups", "parameters"):
        assert sum(row["stored"] for row in result[table]) == result["stored_bytes"]
        assert sum(row["raw"] for row in result[table]) == result["unique_bytes"]


def test_staged_versions_and_garbage_are_reported(two: Repo) -> None:
    two.write_model(seed=7)
    two.git("add", MODEL)
    assert usage(two)["versions"][-1]["commit"] is None
    two.git("reset", "--quiet", "--hard")
    result = usage(two)
    assert len(result["versions"]) == 2
    assert result["disk"]["unreachable"] > 100_000


def test_paths_choose_checkpoints(two: Repo) -> None:
    two.write_model("sub/other.safetensors", seed=8)
    two.commit("another")
    result = usage(two, "sub")
    assert [version["path"] for version in result["versions"]] == ["sub/other.safetensors"]
    assert result["disk"]["unreachable"] == 0
    assert two.run("theta", "du", "nowhere", check=False).returncode == 2


def test_names_that_the_terminal_has_no_characters_for_are_written_all_the_same(repo: Repo) -> None:
    repo.write_model("größe.safetensors")
    repo.commit("one")
    text = repo.git("theta", "du", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert "gr\\xf6\\xdfe.safetensors" in text


@pytest.mark.parametrize(("raw", "text"), [(122, "1.22x"), (9_996, "100x"), (135_012, "1350x"), (0, "0x")])
def test_ratios_are_plain_numbers(raw: int, text: str) -> None:
    assert _times(raw, 100) == text


def test_text_fits_the_terminal_and_its_characters(two: Repo) -> None:
    for width, encoding, block in ((72, "ascii", "#"), (100, "utf-8", "█")):
        env = {**os.environ, "COLUMNS": str(width), "PYTHONIOENCODING": encoding}
        for kind in ("version", "encoding", "group", "parameter"):
            lines = two.git("theta", "du", "--by", kind, env=env).splitlines()
            assert any(block in line for line in lines)
            assert max(len(line) for line in lines) <= width


def test_no_terminal_is_too_narrow_for_the_ids_of_commits(two: Repo) -> None:
    path = f"models/{'deep/' * 9}model.safetensors"
    two.write_model(path)
    two.commit("deep")
    for width in (50, 64, 80):
        lines = two.git("theta", "du", env={**os.environ, "COLUMNS": str(width)}).splitlines()
        (line,) = (line for line in lines if line.startswith(two.git("rev-parse", "main")[:8]))
        assert "del.safetensors " in line
        assert width < 64 or len(line) <= width


def test_a_repository_without_checkpoints(repo: Repo) -> None:
    lines = repo.git("theta", "du").splitlines()
    assert lines[0].startswith("no checkpoint is committed")
    assert lines[-1] == "0 packs on disk: 0 B"


def test_a_damaged_pack_is_counted_and_no_error(two: Repo) -> None:
    path = next(path for path in (two.path / ".git/theta/packs").rglob("*") if path.is_file())
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(b"X" + data[1:])
    result = usage(two)
    assert result["disk"]["damaged"] == len(data)
    assert result["absent_bytes"] > 0
    assert model(2) == two.read()
