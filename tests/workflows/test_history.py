"""What users see of the history of a model: git theta log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import ATTENTION, EMBEDDING, MODEL, SPECS, Repo, model, safetensors, tensors
from safetensors.numpy import save

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def merged(repo: Repo) -> Repo:
    """Return a history with a change on each of two branches, their merge, a rename of the file, and a text."""
    repo.write_model()
    repo.commit("first")
    repo.git("checkout", "-q", "-b", "side")
    repo.write_model(changed={ATTENTION[0]: 2, ATTENTION[1]: 2})
    repo.commit("side")
    repo.git("checkout", "-q", "main")
    repo.write_model(changed={ATTENTION[1]: 3, EMBEDDING: 3})
    repo.commit("main")
    repo.git("-c", "theta.merge.method=average", "merge", "-q", "side", "-m", "both")
    repo.write(b"text", "notes.txt")
    repo.commit("notes")
    repo.git("mv", MODEL, "renamed.safetensors")
    repo.git("commit", "-qm", "move")
    return repo


def _log(repo: Repo, *words: str) -> list[dict]:
    return json.loads(repo.git("theta", "log", "--json", *words))["commits"]


def test_log_lists_the_commits_that_changed_parameters(merged: Repo) -> None:
    commits = _log(merged)
    found = {each["subject"]: each["models"][0] for each in commits}
    assert {name: sorted(model["modified"]) for name, model in found.items()} == {
        "move": [],
        "both": [ATTENTION[1]],
        "main": sorted([EMBEDDING, ATTENTION[1]]),
        "side": ATTENTION[:2],
        "first": [],
    }
    assert len(found["first"]["added"]) == len(SPECS)
    assert (found["first"]["old_path"], found["move"]["old_path"]) == (None, MODEL)
    merge = next(each for each in commits if each["subject"] == "both")
    assert merge["merges"] == [{"path": MODEL, "method": "average", "commits": merge["parents"]}]
    sizes = {"side": 32768, "main": 81920}
    assert {name: found[name]["bytes"] for name in sizes} == sizes


def test_a_page_of_the_history_is_written_besides(merged: Repo, tmp_path: Path) -> None:
    page = tmp_path / "log.html"
    text = merged.git("theta", "log", "--numbers", "-n3", "main~2", "--html", str(page))
    assert text == merged.git("theta", "log", "--numbers", "-n3", "main~2")
    html = page.read_text()
    assert "<title>git theta log main~2</title>" in html
    assert "rel. change" in html
    assert f"{MODEL}: merged " in html


def test_log_takes_what_git_log_takes(merged: Repo) -> None:
    def subjects(*words: str) -> list[str]:
        return [each["subject"] for each in _log(merged, *words)]

    assert subjects("--param", "embeddings.**") == ["main", "first"]
    assert subjects("-n1") == subjects("-1") == ["move"]
    assert subjects("--merges") == ["both"]
    assert subjects("--first-parent", "main^", "--", MODEL) == ["both", "main", "first"]
    assert subjects("side", "^main") == []
    assert subjects("side", "--author=Author", "--grep", "side") == ["side"]
    assert subjects("--", "notes.txt") == []
    assert "nothing" in merged.run("theta", "log", "nothing", check=False).stderr
    assert merged.run("theta", "log", "--param", "[]", check=False).returncode == 2


def test_log_shows_text_numbers_and_a_graph(merged: Repo) -> None:
    short = merged.git("rev-parse", "main~2")[:9]
    text = merged.git("theta", "log", "main~2")
    assert text.splitlines()[0].startswith(f"{short} ")
    assert text.splitlines()[0].endswith(" Author: both")
    assert f"    {MODEL}: 1 modified, 13 unchanged; 16.4 kB\n      {ATTENTION[1]}\n" in text
    assert f"{MODEL}: new, 14 parameters" in text
    assert "rel. change 1.4e+00" in merged.git("theta", "log", "--numbers", "side")
    (side, *_) = _log(merged, "--numbers", "side", "-1")
    assert side["models"][0]["distances"][ATTENTION[0]]["relative"] == pytest.approx(1.4, abs=0.1)
    graph = merged.git("theta", "log", "--graph").splitlines()
    assert any(line.startswith("|\\") and "by average" in line for line in graph)
    assert [line for line in graph if line.startswith("| * ")]
    assert sum("Author:" in line for line in graph) == 5
    assert merged.git("theta", "log", "--graph", "--", "notes.txt") == ""


def test_log_follows_files_and_directories_that_were_renamed(merged: Repo) -> None:
    here = "renamed.safetensors"
    assert [each["subject"] for each in _log(merged, "--", here)] == ["move"]
    commits = _log(merged, "--follow", "--", here)
    assert [each["subject"] for each in commits] == ["move", "both", "main", "side", "first"]
    assert commits[0]["models"][0]["old_path"] == MODEL
    (merged.path / "run").mkdir()
    merged.git("mv", here, "run/model.safetensors")
    merged.git("commit", "-qm", "into a directory")
    found = _log(merged, "--follow", "-n3", "--", "run")
    assert [each["subject"] for each in found] == ["into a directory", "move", "both"]
    assert _log(merged, "--follow", "--param", EMBEDDING, "--", "run")[0]["subject"] == "main"
    assert "needs a path" in merged.run("theta", "log", "--follow", check=False).stderr


def test_a_graph_of_some_parameters_has_only_the_commits_that_changed_them(merged: Repo) -> None:
    lines = merged.git("theta", "log", "--graph", "--param", EMBEDDING).splitlines()
    assert [line.rpartition(": ")[2] for line in lines if line.startswith("* ")] == ["main", "first"]
    lines = merged.git("theta", "log", "--graph", "--param", ATTENTION[1]).splitlines()
    subjects = [line.rpartition(": ")[2] for line in lines if "* " in line]
    assert (subjects[0], {*subjects[1:3]}, subjects[3]) == ("both", {"main", "side"}, "first")
    assert any(line.startswith("|\\") for line in lines)
    assert merged.git("theta", "log", "--graph", "--param", "nothing") == ""


def test_log_takes_shards_for_one_model(repo: Repo) -> None:
    content = tensors(1)
    names = sorted(content)

    def save(*parts: list[str]) -> None:
        for path in (repo.path / "run").glob("*"):
            path.unlink()
        for number, part in enumerate(parts, 1):
            file = f"run/model-{number:05}-of-{len(parts):05}.safetensors"
            repo.write(safetensors({name: content[name] for name in part}), file)

    save(names[:6], names[6:])
    repo.commit("two")
    content[names[0]] = tensors(2)[names[0]]
    save(names[:4], names[4:9], names[9:])
    repo.commit("three")
    (three, two) = (each["models"] for each in _log(repo, "--", "run"))
    assert [model["path"] for model in (*three, *two)] == ["run/model.safetensors"] * 2
    assert (three[0]["modified"], three[0]["moved"], three[0]["added"]) == ([names[0]], len(names) - 1, [])


def test_log_reports_a_broken_manifest_and_goes_on(merged: Repo) -> None:
    broken = b'git-theta manifest 1\nformat safetensors\nskeleton x 1\n"a"\tF99\t[1]\t' + b"0" * 64 + b"\n"
    oid = merged.git("hash-object", "-w", "--stdin", input=broken.decode())
    merged.git("update-index", "--cacheinfo", f"100644,{oid},renamed.safetensors")
    merged.git("commit", "-qm", "broken", "--no-verify")
    done = merged.run("theta", "log")
    assert "broken" not in done.stdout
    assert "hint: git theta fsck" in done.stderr
    assert done.stdout.count("Author:") == 5


def _blame(repo: Repo, *words: str) -> dict[str, str]:
    found = json.loads(repo.git("theta", "blame", "--json", *words))
    return {each["name"]: found["commits"][each["commit"]]["subject"] for each in found["parameters"]}


def test_blame_finds_the_last_commit_of_each_parameter(merged: Repo) -> None:
    expected = dict.fromkeys(SPECS, "first") | {EMBEDDING: "main", ATTENTION[0]: "side", ATTENTION[1]: "both"}
    assert _blame(merged, "renamed.safetensors") == expected
    assert _blame(merged, "main~2", "--", MODEL) == _blame(merged, f"main~2:{MODEL}") == expected
    assert _blame(merged, "--param", "**.attention.**", "side", MODEL) == dict.fromkeys(ATTENTION, "first") | {
        ATTENTION[0]: "side",
        ATTENTION[1]: "side",
    }
    text = merged.git("theta", "blame", "renamed.safetensors").splitlines()
    assert any(ATTENTION[1] in line and line.endswith(" 1  both") for line in text)
    for words in (["gone"], [], ["main", MODEL, MODEL]):
        assert merged.run("theta", "blame", *words, check=False).returncode in {2, 3}


def test_blame_follows_parameters_through_names_shards_and_files(repo: Repo) -> None:
    content = tensors(1)
    names = sorted(content)
    repo.write(safetensors(content))
    repo.commit("one file")
    content["new.name"] = content.pop(names[0])
    content[names[1]] = tensors(2)[names[1]]
    repo.write(safetensors(content))
    repo.commit("other names")
    (repo.path / MODEL).unlink()
    parts = sorted(content)[:7], sorted(content)[7:]
    for number, part in enumerate(parts, 1):
        repo.write(safetensors({name: content[name] for name in part}), f"run/m-0000{number}-of-00002.safetensors")
    content[parts[0][0]] = tensors(3)[parts[0][0]]
    repo.commit("two files")
    repo.write(safetensors({name: content[name] for name in parts[0]}), "run/m-00001-of-00002.safetensors")
    repo.commit("last")
    expected = dict.fromkeys(content, "one file") | {names[1]: "other names", parts[0][0]: "last"}
    assert _blame(repo, "run") == _blame(repo, "run/m.safetensors") == expected
    (renamed,) = json.loads(repo.git("theta", "blame", "--json", "--param", "new.*", "run"))["parameters"]
    assert (renamed["file_there"], renamed["name_there"]) == (MODEL, names[0])
    assert f"(was {names[0]})" in repo.git("theta", "blame", "--param", "new.*", "run")


def test_blame_takes_equal_numbers_for_renamed_only_if_the_names_agree(repo: Repo) -> None:
    def write(values: dict[str, float]) -> None:
        repo.write(
            safetensors({name: ("F32", (4,), np.full(4, x, "<f4").tobytes()) for name, x in values.items()} | steps)
        )

    steps = {f"state.{n}.step": ("F32", (), np.float32(n).tobytes()) for n in range(3)}
    write({"layers.0.norm.bias": 0, "layers.1.norm.bias": 0})
    repo.commit("first")
    del steps["state.2.step"]
    steps["state.1.step"] = ("F32", (), np.float32(2).tobytes())
    write({"blocks.1.norm.bias": 0, "blocks.0.norm.bias": 0})
    repo.commit("second")
    assert _blame(repo, MODEL)["state.1.step"] == "second"
    found = json.loads(repo.git("theta", "blame", "--json", "--param", "blocks.*.norm.bias", MODEL))["parameters"]
    assert [each["name_there"] for each in found] == ["layers.0.norm.bias", "layers.1.norm.bias"]


def test_drift_measures_versions_from_the_first_commit_on(repo: Repo) -> None:
    start = tensors()
    repo.write_model()
    repo.commit("start")
    for number, seed in enumerate((0, 3, 5)):
        repo.write_model(changed={ATTENTION[0]: 3, EMBEDDING: seed})
        repo.commit(f"step {number}")
    found = json.loads(repo.git("theta", "drift", "--json", "HEAD~3..", MODEL))
    assert [each["subject"] for each in found["versions"]] == ["step 0", "step 1", "step 2"]
    series = {each["name"]: each["relative"] for each in found["parameters"]}
    assert set(series) == {ATTENTION[0], EMBEDDING}
    old, new = (np.frombuffer(each[ATTENTION[0]][2], "<f4") for each in (start, tensors(3)))
    assert series[ATTENTION[0]] == pytest.approx([np.linalg.norm(new - old) / np.linalg.norm(old)] * 3, rel=1e-6)
    assert series[EMBEDDING][0] == 0
    assert series[EMBEDDING][1] > 1
    few = json.loads(repo.git("theta", "drift", "--json", "-n1", "--param", "embeddings.**", "HEAD~3..HEAD", MODEL))
    assert ([each["subject"] for each in few["versions"]], few["left_out"]) == (["step 2"], 2)
    assert [each["name"] for each in few["parameters"]] == [EMBEDDING]
    text = repo.git("theta", "drift", "HEAD~3", "--", MODEL).splitlines()
    start, end = (repo.git("rev-parse", rev) for rev in ("HEAD~3", "HEAD"))
    assert found["from"] == start
    assert text[0] == f"3 versions after {start[:9]}, up to {end[:9]}"
    assert {line.split()[-1] for line in text[1:]} == {"███", "▁██"}
    assert "does not change" in repo.run("theta", "drift", "HEAD..HEAD", MODEL, check=False).stderr


def test_checkout_brings_parameters_of_another_version_into_the_file(merged: Repo) -> None:
    name = "renamed.safetensors"
    before = merged.read(name)
    words = ("theta", "checkout", f"side~:{MODEL}", "**.attention.**")
    assert "does not exist" in merged.run(*words, check=False).stderr
    merged.git("mv", name, MODEL)
    dry = json.loads(merged.git(*words, "--dry-run", "--json"))
    assert (dry["taken"], dry["same"], dry["files"]) == (ATTENTION[:2], 2, [MODEL])
    assert merged.read() == before
    assert "took 2 parameters" in merged.git(*words)
    assert merged.read() == model(changed={EMBEDDING: 3})
    assert merged.git("diff", "--name-only") == ""
    merged.git("commit", "-qm", "take attention")
    assert merged.problems(MODEL, model(changed={EMBEDDING: 3})) == []
    assert _log(merged, "-1")[0]["models"][0]["modified"] == ATTENTION[:2]
    assert "took 0 parameters" in merged.git(*words)
    merged.write_model(seed=9)
    other = merged.run("theta", "checkout", f"side:{MODEL}", "**.attention.**", check=False)
    assert (other.returncode, "differs from the index" in other.stderr) == (2, True)
    assert merged.read() == model(9)
    assert merged.run("theta", "checkout", f"side:{MODEL}", "nothing", check=False).returncode == 2
    assert merged.run("theta", "checkout", f"side:{MODEL}", check=False).returncode == 2


def test_log_names_only_rules_that_match_a_parameter_of_the_file(repo: Repo) -> None:
    rules = b"rules: [{match: head, method: theirs}, {match: 'encoder.**', method: slerp}]"
    repo.write(b"version: 1\n" + rules, ".thetamerge")
    repo.write(save({"head": np.ones(4, np.float32)}), "other.safetensors")
    repo.write_model()
    repo.commit("first")
    repo.git("checkout", "-q", "-b", "side")
    repo.write_model(changed={ATTENTION[0]: 2})
    repo.commit("side")
    repo.git("checkout", "-q", "main")
    repo.write_model(changed={ATTENTION[0]: 3})
    repo.commit("main")
    repo.git("merge", "-q", "side", "-m", "both")
    assert "by average, slerp\n" in repo.git("theta", "log", "-1")
