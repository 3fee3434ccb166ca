"""What an interrupted migration has done is read back, whatever the crash left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from git_theta_ext.errors import RepositoryError
from git_theta_ext.operations.migrate.journal import Journal, Move, read_moves, write_moves

if TYPE_CHECKING:
    from pathlib import Path

A, B, C = "a" * 40, "b" * 40, "c" * 64


def test_a_line_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal"
    with Journal(path) as journal:
        journal.add(A, B)
    path.write_text(path.read_text() + f"{B} {A[:7]}")
    with Journal(path) as journal:
        assert journal.pairs == {A: B}
        journal.add(C, A)
    with Journal(path) as journal:
        assert journal.pairs == {A: B, C: A}


def test_moves_are_read_back_and_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "moves"
    moves = [Move("HEAD", A, B), Move("refs/heads/\udcff x", B, A)]
    assert read_moves(path) == []
    write_moves(path, moves)
    assert read_moves(path) == moves
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RepositoryError):
        read_moves(path)
