"""The file in which the records of a merge in progress are noted, line by line."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from git_theta_ext.errors import MergeError, PluginError
from git_theta_ext.git.record_script import drop_records
from git_theta_ext.merging.record import Record
from git_theta_ext.model.bounded_json import read_json
from git_theta_ext.records import dataclass
from git_theta_ext.util.files import replace_content, reporting_os_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from git_theta_ext.git.repository import Repository

    Results = Mapping[str, str]
    """Path to the object id of each merged file."""

_SMALL = 1 << 15
"""Bytes of a file that is read in less time than it is written anew."""


_LARGEST_FILE = 1 << 26


@dataclass(frozen=True)
class NotedMerge:
    """How a checkpoint was merged, and the object ids of the resulting files."""

    record: Record
    results: Results


def notes_file(repo: Repository) -> Path:
    """Return the file in which a work tree's merge in progress is recorded."""
    return repo.git_dir / "theta" / "merge.json"


def read_notes(repo: Repository) -> tuple[tuple[str, ...], dict[str, NotedMerge]] | None:
    """Return the heads of the merge and its records by path; lines that cannot be read are ignored."""
    lines: list[str] = []
    with suppress(OSError, ValueError):
        if notes_file(repo).stat().st_size <= _LARGEST_FILE:
            lines = notes_file(repo).read_text("utf-8").splitlines()
    heads: tuple[str, ...] = ()
    merges: dict[str, NotedMerge] = {}
    for line in lines:
        with suppress(ValueError, KeyError, TypeError, MergeError, PluginError):
            data = read_json(line)
            of_line = tuple(map(str, data["heads"]))
            noted = [NotedMerge(Record.from_json(one["record"]), dict(one["results"])) for one in data["noted"]]
            if of_line != heads:
                heads, merges = of_line, {}
            for path in data.get("without", ()):
                merges.pop(path, None)
            merges.update((one.record.path, one) for one in noted)
    return (heads, merges) if heads else None


def write_notes(repo: Repository, heads: Sequence[str], merges: Mapping[str, NotedMerge]) -> None:
    """Record how some checkpoints were merged, and no others.

    Args:
        repo: The repository.
        heads: The current commit, and those that are merged into it.
        merges: The records by path, or by the name of a model.

    Raises:
        StoreError: The file cannot be written.
    """
    path = notes_file(repo)
    with reporting_os_errors(path):
        drop_records(repo.git_dir)
        replace_content(path, _line(heads, merges))


def add_notes(repo: Repository, heads: Sequence[str], merges: Mapping[str, NotedMerge], without: Sequence[str]) -> None:
    """Add a line to the file if it is about the same merge, so that many checkpoints take no longer each than few.

    Whenever the file has become twice as large, it is written anew without what was noted again since.

    Args:
        repo: The repository.
        heads: As for ``write_notes``.
        merges: As for ``write_notes``.
        without: Paths of checkpoints that are not recorded any more.

    Raises:
        StoreError: The file cannot be written.
    """
    path, begin = notes_file(repo), _beginning(heads)
    with reporting_os_errors(path):
        drop_records(repo.git_dir)
        with suppress(FileNotFoundError), path.open("rb+") as file:
            if file.read(len(begin)) == begin:
                added = b"\n" + _line(heads, merges, without)  # the last line may be truncated
                size = file.seek(0, os.SEEK_END)
                if (size + len(added)).bit_length() <= max(size.bit_length(), _SMALL.bit_length()):
                    file.write(added)
                else:
                    noted = {
                        name: one for name, one in (read_notes(repo) or ((), {}))[1].items() if name not in without
                    }
                    replace_content(path, _line(heads, {**noted, **merges}))
                return
        if merges:
            replace_content(path, _line(heads, merges))


def _line(heads: Sequence[str], merges: Mapping[str, NotedMerge], without: Sequence[str] = ()) -> bytes:
    noted = [{"record": merge.record.to_json(), "results": dict(merge.results)} for merge in merges.values()]
    dropped = {"without": list(without)} if without else {}
    return json.dumps({"heads": list(heads), "noted": noted, **dropped}).encode()


def _beginning(heads: Sequence[str]) -> bytes:
    """Return how a line about a merge begins."""
    return json.dumps({"heads": list(heads)}).encode()[:-1]
