"""What commands show on a terminal of 80 columns, with colours."""

from __future__ import annotations

import os
import re

import pytest
from documentation.pictures.terminal import shown
from helpers import ATTENTION, MODEL, Repo

COLOUR = re.compile(r"\x1b\[\d*m")


@pytest.fixture
def changed(repo: Repo) -> Repo:
    """Return a repository with a commit that changed parameters with long names, which are changed again."""
    for seed in range(2):
        repo.write_model(changed=dict.fromkeys(ATTENTION, seed))
        repo.commit(str(seed))
    repo.write_model(changed=dict.fromkeys(ATTENTION, 2))
    return repo


def lines_of(repo: Repo, command: str) -> list[str]:
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    return shown(command, repo.path, {**environment, "COLUMNS": "80", "TERM": "xterm-256color"})


def test_status_shows_colours_and_no_sequences(changed: Repo) -> None:
    lines = lines_of(changed, "git theta status")
    assert f"  \x1b[1mdiff --theta {MODEL}\x1b[m" in lines
    assert "\\x1b" not in "".join(lines)
    assert max(len(COLOUR.sub("", line)) for line in lines) <= 80


def test_log_shortens_names_and_no_numbers(changed: Repo) -> None:
    lines = lines_of(changed, "COLUMNS=60 git theta log --numbers -1")
    assert any(re.search(r"modified  rel\. change \d\.\de[+-]\d\d$", line) for line in lines)
    assert max(len(COLOUR.sub("", line)) for line in lines) <= 60


def test_show_has_columns_that_are_no_wider_than_their_content(changed: Repo) -> None:
    lines = lines_of(changed, f"git theta show HEAD:{MODEL}")
    assert max(map(len, lines)) <= 80
    rows = [match for line in lines if (match := re.search(r"\](?P<gap> +)[0-9a-f]{16}$", line))]
    assert len({match.start("gap") + len(match["gap"]) for match in rows}) == 1
    assert min(len(match["gap"]) for match in rows) == 2


@pytest.mark.parametrize("option", ["", "--stat"])
def test_diff_shortens_the_module_that_holds_all_changes(changed: Repo, option: str) -> None:
    (line,) = (line for line in lines_of(changed, f"git theta diff {option}") if " all in " in line)
    assert line.endswith(".{0-3}.attention")
    assert ", all in …" in line
    assert len(line) == 80
