"""How checkpoints were merged is noted line by line, until the merge is committed."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

from git_theta_ext.merging.record import Record, Step
from git_theta_ext.merging.rules.rules import Rules
from git_theta_ext.operations.merge import notes
from git_theta_ext.operations.merge.record import note_merge, note_step

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

HEADS = ("3", "4")


def _record(path: str, method: str = "ours") -> Record:
    return Record(path, None, ("1", "2"), HEADS, Rules.only(method))


def _repo(folder: Path) -> Any:
    return SimpleNamespace(git_dir=folder)


def _note(repo: Any, path: str, result: str, heads: tuple[str, ...] = HEADS, method: str = "ours") -> None:
    note_merge(repo, heads, {path: (_record(path, method), {path: result})})


def _noted(repo: Any) -> dict[str, str]:
    """Return the method of each checkpoint that is noted for the merge."""
    heads, merges = notes.read_notes(repo) or ((), {})
    assert heads == HEADS
    return {path: one.record.rules.defaults.method for path, one in merges.items()}


def test_each_checkpoint_adds_a_line_and_the_last_one_about_it_counts(tmp_path):
    repo = _repo(tmp_path)
    _note(repo, "a", "8")
    first = (tmp_path / "theta/merge.json").read_bytes()
    _note(repo, "b", "6")
    _note(repo, "a", "5", method="theirs")
    assert (tmp_path / "theta/merge.json").read_bytes().startswith(first + b"\n")
    assert _noted(repo) == {"a": "theirs", "b": "ours"}


def test_a_checkpoint_that_is_merged_again_without_rules_is_not_recorded(tmp_path):
    repo = _repo(tmp_path)
    _note(repo, "a", "5")
    _note(repo, "b", "6")
    note_merge(repo, HEADS, {"a": (None, {"a": "5"})})
    assert _noted(repo) == {"b": "ours"}


def test_a_line_that_was_not_written_as_a_whole_is_skipped(tmp_path):
    repo = _repo(tmp_path)
    _note(repo, "a", "5")
    file = tmp_path / "theta/merge.json"
    file.write_bytes(file.read_bytes() + b'\n{"heads": ["3", "4"], "noted": [{"rec')
    _note(repo, "b", "6")
    assert _noted(repo) == {"a": "ours", "b": "ours"}


def test_another_merge_begins_anew(tmp_path):
    repo = _repo(tmp_path)
    _note(repo, "c", "7", heads=("3", "9"))
    _note(repo, "a", "5")
    assert _noted(repo) == {"a": "ours"}
    assert b'"c"' not in (tmp_path / "theta/merge.json").read_bytes()


def test_a_merge_that_is_repeated_does_not_make_the_file_larger_and_larger(tmp_path):
    repo = _repo(tmp_path)
    file = tmp_path / "theta/merge.json"
    _note(repo, "b", "6")
    sizes = []
    for number in range(300):
        _note(repo, "a", str(number), method="theirs")
        sizes.append(file.stat().st_size)
    assert max(sizes) < 2 * notes._SMALL
    assert max(sizes) > 10 * sizes[0]  # else each of them would read what is noted
    assert _noted(repo) == {"a": "theirs", "b": "ours"}
    assert (notes.read_notes(repo) or ((), {}))[1]["a"].results == {"a": "299"}


def test_many_checkpoints_are_all_noted_however_often_the_file_is_written_anew(tmp_path):
    repo = _repo(tmp_path)
    for number in range(400):
        _note(repo, str(number), "5")
    note_merge(repo, HEADS, {"7": (None, {"7": "5"})})
    assert (tmp_path / "theta/merge.json").stat().st_size > 2 * notes._SMALL
    assert _noted(repo) == {str(number): "ours" for number in range(400) if number != 7}


def test_a_checkpoint_without_rules_is_dropped_when_the_file_is_written_anew(tmp_path, monkeypatch):
    repo = _repo(tmp_path)
    monkeypatch.setattr(notes, "_SMALL", 1)
    for number in range(9):
        _note(repo, str(number), "5")
        note_merge(repo, HEADS, {str(number): (None, {str(number): "5"})})
    assert _noted(repo) == {}
    _note(repo, "a", "5")
    assert _noted(repo) == {"a": "ours"}


def test_what_earlier_versions_noted_is_read(tmp_path):
    repo = _repo(tmp_path)
    noted = [{"record": _record(path).to_json(), "results": {path: oid}} for path, oid in (("a", "5"), ("b", "6"))]
    (tmp_path / "theta").mkdir()
    (tmp_path / "theta/merge.json").write_text(json.dumps({"heads": list(HEADS), "noted": noted}))
    _note(repo, "c", "7")
    assert _noted(repo) == dict.fromkeys("abc", "ours")


def test_a_resolution_changes_the_note_of_its_checkpoint(tmp_path):
    repo = _repo(tmp_path)
    _note(repo, "a", "8")
    _note(repo, "b", "6")
    note_step(repo, Step(Rules.only("theirs"), (), ()), {"a": "8"}, {"a": "5"})
    assert _noted(repo) == {"a": "ours", "b": "ours"}
