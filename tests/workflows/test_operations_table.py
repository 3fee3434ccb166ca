"""The table of git's operations in docs/merging.md: its commands result in its values."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from helpers import MODEL, Repo, WithHistory, safetensors

DOCS = Path(__file__).parents[2] / "docs" / "merging.md"
SHAPE = (4, 4)
MERGES = ("merge", "merge-tree")


@dataclass(frozen=True)
class Row:
    """A row of the table: what is checked out, commands, and the value that results."""

    on: str
    commands: tuple[str, ...]
    todo: str
    value: float

    @property
    def merges(self) -> bool:
        """Whether the last command merges branches; all others apply a change."""
        return shlex.split(self.commands[-1])[1] in MERGES


def _rows() -> list[Row]:
    section = DOCS.read_text("utf-8").partition("### What each operation results in")[2].partition("\n### ")[0]
    rows = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4 and cells[0].startswith("`"):
            words = re.search(r", with `(\w+)` for `c2`", cells[1])
            commands = re.sub(r", with `\w+` for `c2`", "", cells[1]).split("; ")
            todo = words[1] if words else ""
            rows.append(Row(cells[0].strip("`"), tuple(each.strip("`") for each in commands), todo, float(cells[2])))
    return rows


ROWS = _rows()
OPERATIONS = {shlex.split(command)[1] for row in ROWS for command in row.commands if command.startswith("git ")}


def checkpoint(value: float) -> bytes:
    """Return a checkpoint whose only parameter has the same value everywhere."""
    return safetensors({"w": ("F32", SHAPE, np.full(SHAPE, value, "<f4").tobytes())})


def value_in(data: bytes) -> float:
    start = 8 + int.from_bytes(data[:8], "little")
    assert list(json.loads(data[8:start])) == ["w"]
    found = np.frombuffer(data[start:], "<f4")
    assert np.all(found == found[0])
    return float(found[0])


def _history(repo: Repo) -> None:
    for branch, start, name, value in (
        ("base", "", "base", 0),
        ("topic", "base", "c1", 1),
        ("topic", "", "c2", 3),
        ("topic", "", "c3", 7),
        ("other", "base", "o", 64),
        ("main", "base", "up", 16),
    ):
        if start or name == "base":
            repo.switch("-B", branch, *([start] if start else []))
        repo.write(checkpoint(value))
        repo.commit(name)
    repo.switch("--detach", "main")
    repo.git("merge", "--quiet", "topic")
    repo.git("tag", "merged")


@pytest.fixture
def history(with_history: WithHistory) -> Repo:
    """Return a repository with the history that the table is about."""
    return with_history(_history)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: " ".join(row.commands[-1].split()[1:]) + f" {row.todo}".rstrip())
def test_commands_result_in_the_value_of_the_table(history: Repo, row: Row) -> None:
    (history.path / "c3.patch").write_text(
        history.git("format-patch", "-1", "--full-index", "--stdout", "topic") + "\n"
    )
    history.switch(row.on)
    editor = f"{sys.executable} -c 'import sys, pathlib; p = pathlib.Path(sys.argv[1]);"
    editor += f' p.write_text(p.read_text().replace("pick", "{row.todo}", 2).replace("{row.todo}", "pick", 1))\''
    environment = os.environ | ({"GIT_SEQUENCE_EDITOR": editor} if row.todo else {})
    said = ""
    for command in row.commands:
        program, *words = shlex.split(command)
        if program == "add":
            history.write(checkpoint(value_in(history.read()) + float(words[0])))
        else:
            done = history.run(*words, env=environment)
            said += done.stderr
    if "merge-tree" in words:
        history.switch("--detach", history.git("commit-tree", "-m", "tree", done.stdout.strip()))
    assert value_in(history.read()) == row.value
    line = (
        f"{MODEL}: 0 taken, 1 merged by average"
        if row.merges
        else "the change applied to 1 parameter that both changed"
    )
    assert line in said
    if not row.merges:
        name = "am" if "am" in words else "rebase" if "--rebase" in words else words[0]
        assert f"git-theta: {MODEL}: {name}: 0 taken, " in said
        assert "Theta-Merge" not in history.git("log", "-1", "--format=%B")


def test_the_table_has_every_operation_that_merges_three_versions() -> None:
    wanted = "merge merge-tree rebase pull cherry-pick revert stash am apply checkout switch"
    assert set(wanted.split()) <= OPERATIONS
    assert {row.todo for row in ROWS} == {"", "drop", "fixup", "edit"}
