"""Two branches add tokens; the merge unites the vocabularies and gives each row to its token."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import MODEL, Repo, safetensors

if TYPE_CHECKING:
    from collections.abc import Mapping

WIDTH = 4
WORDS = ["a", "b", "c"]


def table(rows: Mapping[str, float]) -> tuple[str, tuple[int, ...], bytes]:
    return "F32", (len(rows), WIDTH), np.repeat(np.array([*rows.values()], "<f4")[:, None], WIDTH, 1).tobytes()


def write(repo: Repo, rows: Mapping[str, float], mlp: float, extra: object = None) -> None:
    """Write a model whose tokens have rows of one number each, with its tokenizer and configuration."""
    vocabulary = {token: number for number, token in enumerate(WORDS)}
    head = {token: -value for token, value in rows.items()}
    content = {
        "model.embed_tokens.weight": table(rows),
        "lm_head.weight": table(head),
        "model.mlp.weight": table(dict.fromkeys("xyzuvw", mlp)),
    }
    (repo.path / MODEL).write_bytes(safetensors(content))
    added = [{"id": n, "content": t, "special": True} for n, t in enumerate(rows) if t not in WORDS]
    tokenizer = {
        "added_tokens": added,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    (repo.path / "tokenizer.json").write_text(json.dumps(tokenizer, indent=2) + "\n")
    config = {"model_type": "tiny", "vocab_size": len(rows)} | ({} if extra is None else {"extra": extra})
    (repo.path / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def diverge(repo: Repo, extra: object = None) -> None:
    """Let two branches add a token each, and one token both; the merge of them is in conflict."""
    base = {"a": 1.0, "b": 2.0, "c": 3.0}
    write(repo, base, 1.0)
    repo.git("add", ".")
    repo.git("commit", "--quiet", "--message", "base")
    repo.git("switch", "--quiet", "--create", "side")
    write(repo, {**base, "b": 4.0, "<both>": 12.0, "<theirs>": 20.0}, 3.0, extra)
    repo.git("commit", "--quiet", "--all", "--message", "theirs")
    repo.git("switch", "--quiet", "main")
    write(repo, {**base, "a": 5.0, "<ours>": 30.0, "<both>": 10.0}, 5.0)
    repo.git("commit", "--quiet", "--all", "--message", "ours")
    done = repo.run("merge", "side", check=False)
    assert (done.returncode, f"git theta resolve --tokens {MODEL} gives rows" in done.stderr) == (1, True)


def rows(repo: Repo, name: str) -> list[float]:
    data = repo.read()
    size = int.from_bytes(data[:8], "little")
    start, end = json.loads(data[8 : 8 + size])[name]["data_offsets"]
    return np.frombuffer(data[8 + size + start : 8 + size + end], "<f4").reshape(-1, WIDTH)[:, 0].tolist()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], [3.0, 3.0, 3.0, 30.0, 11.0, 20.0]),
        (["--method", "task_arithmetic"], [5.0, 4.0, 3.0, 30.0, 11.0, 20.0]),
    ],
)
def test_rows_follow_their_tokens(repo: Repo, words: list[str], expected: list[float]) -> None:
    diverge(repo)
    repo.git("theta", "resolve", "--tokens", *words, MODEL)
    assert rows(repo, "model.embed_tokens.weight") == expected
    assert rows(repo, "lm_head.weight") == [-value for value in expected]
    assert rows(repo, "model.mlp.weight") == [4.0] * 6
    tokenizer = json.loads((repo.path / "tokenizer.json").read_text())
    assert {entry["content"]: entry["id"] for entry in tokenizer["added_tokens"]} == {
        "<ours>": 3,
        "<both>": 4,
        "<theirs>": 5,
    }
    assert json.loads((repo.path / "config.json").read_text()) == {"model_type": "tiny", "vocab_size": 6}
    assert repo.git("status", "--porcelain").split() == ["M", "config.json", "M", MODEL, "M", "tokenizer.json"]
    repo.git("commit", "--quiet", "--no-edit")
    assert repo.problems(MODEL, repo.read()) == []


def test_the_record_of_the_merge_does_not_claim_more_than_was_done(repo: Repo) -> None:
    diverge(repo)
    repo.git("theta", "resolve", "--tokens", MODEL)
    repo.git("commit", "--quiet", "--no-edit")
    done = repo.run("theta", "merge", "--replay", "HEAD", check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_a_configuration_with_other_conflicts_is_left_with_a_warning(repo: Repo) -> None:
    diverge(repo, extra=1)
    done = repo.run("theta", "resolve", "--tokens", MODEL)
    assert "set vocab_size to 6" in done.stderr
    assert "UU config.json" in repo.git("status", "--porcelain")


def test_a_tokenizer_that_was_staged_already_is_read_from_the_commits(repo: Repo) -> None:
    diverge(repo)
    repo.git("checkout", "--quiet", "--ours", "tokenizer.json")
    repo.git("add", "tokenizer.json")
    repo.git("theta", "resolve", "--tokens", MODEL)
    assert rows(repo, "model.embed_tokens.weight") == [3.0, 3.0, 3.0, 30.0, 11.0, 20.0]


def test_a_side_without_a_tokenizer_is_refused_and_nothing_is_changed(repo: Repo) -> None:
    diverge(repo)
    repo.git("merge", "--abort")
    repo.git("rm", "--quiet", "tokenizer.json")
    repo.git("commit", "--quiet", "--message", "no tokenizer")
    repo.run("merge", "side", check=False)
    before = repo.read(), repo.git("status", "--porcelain")
    done = repo.run("theta", "resolve", "--tokens", MODEL, check=False)
    assert (done.returncode, "not every side has tokenizer.json: ours has none" in done.stderr) == (2, True)
    assert "hint: git log --all -- tokenizer.json finds it" in done.stderr
    assert "--tokens" not in repo.run("theta", "resolve", MODEL, check=False).stdout
    assert (repo.read(), repo.git("status", "--porcelain")) == before


def test_list_of_conflicts_names_the_command_that_aligns_tokens(repo: Repo) -> None:
    diverge(repo)
    assert repo.run("theta", "resolve", check=False).stdout.endswith(
        f"to resolve rows that are other tokens on each side: git theta resolve --tokens {MODEL}\n"
        f"to resolve the others, or take a side: git theta resolve --method ours|theirs|base {MODEL}\n"
    )
    repo.git("theta", "resolve", "--method", "ours", MODEL, "lm_head.weight", "model.embed_tokens.weight")
    assert repo.run("theta", "resolve", check=False).returncode == 2, "no conflict is left"


@pytest.mark.parametrize(
    ("source", "expected", "dropped"),
    [
        ("base", [3.0, 3.0, 3.0], "dropped the rows of 3 tokens that base lacks: <ours>, <both>, <theirs>"),
        ("ours", [3.0, 3.0, 3.0, 30.0, 11.0], "dropped the rows of 1 token that ours lacks: <theirs>"),
        ("theirs", [3.0, 3.0, 3.0, 11.0, 20.0], "dropped the rows of 1 token that theirs lacks: <ours>"),
    ],
)
def test_rows_of_tokens_that_the_source_of_the_tokenizer_lacks_are_dropped(
    repo: Repo, source: str, expected: list[float], dropped: str
) -> None:
    diverge(repo)
    commit = {"base": "main~1", "ours": "main", "theirs": "side"}[source]
    done = repo.run("theta", "resolve", "--tokenizer-source", source, MODEL)
    assert dropped in done.stdout.splitlines()
    assert rows(repo, "model.embed_tokens.weight") == expected
    assert rows(repo, "model.mlp.weight") == [4.0] * 6
    assert repo.git("diff", "--cached", "--name-only", commit, "--", "tokenizer.json") == ""
    assert json.loads((repo.path / "config.json").read_text())["vocab_size"] == len(expected)


def test_tokens_that_are_dropped_are_listed_for_programs(repo: Repo) -> None:
    diverge(repo)
    done = repo.git("theta", "resolve", "--json", "--tokenizer-source", "theirs", MODEL)
    assert json.loads(done)["tokenizers"] == [{"path": "tokenizer.json", "rows": 5, "dropped": ["<ours>"]}]


def test_an_unknown_source_of_the_tokenizer_is_refused_with_those_that_exist(repo: Repo) -> None:
    diverge(repo)
    done = repo.run("theta", "resolve", "--tokenizer-source", "main", MODEL, check=False)
    assert (done.returncode, "the sources are union, base, ours, theirs" in done.stderr) == (2, True)


def test_methods_are_offered_for_rows_that_are_the_same_tokens_on_both_sides(repo: Repo) -> None:
    base = {"a": 1.0, "b": 2.0, "c": 3.0}
    for branch, value in (("main", 1.0), ("side", 3.0), ("main", 5.0)):
        if value > 1:
            repo.git("switch", "--quiet", *(["--create"] if branch == "side" else []), branch)
        write(repo, base if value == 1 else {**base, "<both>": value}, value)
        repo.git("add", ".")
        repo.git("commit", "--quiet", "--message", f"value {value}")
    repo.run("merge", "side", check=False)
    assert (
        f"to give rows to the same tokens first: git theta resolve --tokens {MODEL}"
        in repo.run("theta", "resolve", check=False).stdout
    )


@pytest.mark.parametrize("command", ["cherry-pick", "rebase", "revert"])
def test_versions_of_a_tokenizer_that_is_staged_in_a_replay_are_those_of_its_commits(repo: Repo, command: str) -> None:
    diverge(repo)
    repo.git("merge", "--abort")
    if command == "revert":  # of what both branches have; the later commit of ours adds another token
        repo.git("reset", "--quiet", "--hard", "side")
        write(repo, {"a": 1.0, "b": 4.0, "c": 3.0, "<both>": 12.0, "<theirs>": 20.0, "<ours>": 30.0}, 3.0)
        repo.git("commit", "--quiet", "--all", "--message", "later")
    repo.run(command, "side", check=False)
    repo.git("checkout", "--quiet", "--ours", "tokenizer.json")
    repo.git("add", "tokenizer.json")
    repo.git("theta", "resolve", "--tokens", MODEL)
    kept = {"cherry-pick": [30.0, 11.0, 20.0], "rebase": [12.0, 20.0, 30.0], "revert": [12.0, 20.0, 30.0]}[command]
    if command == "rebase":  # both sides have <both>
        kept[0] = 11.0
    assert rows(repo, "model.embed_tokens.weight")[3:] == kept


def test_a_replay_whose_commit_git_does_not_name_is_refused_with_what_brings_them_back(repo: Repo) -> None:
    diverge(repo)
    repo.git("merge", "--abort")
    repo.run("cherry-pick", "side", check=False)
    repo.git("checkout", "--quiet", "--ours", "tokenizer.json")
    repo.git("add", "tokenizer.json")
    (repo.path / ".git" / "CHERRY_PICK_HEAD").unlink()
    done = repo.run("theta", "resolve", "--tokens", MODEL, check=False)
    assert "hint: git checkout --merge tokenizer.json" in done.stderr
    repo.git("checkout", "--quiet", "--merge", "tokenizer.json")
    repo.git("theta", "resolve", "--tokens", MODEL)
    assert rows(repo, "model.embed_tokens.weight")[3:] == [30.0, 11.0, 20.0]
