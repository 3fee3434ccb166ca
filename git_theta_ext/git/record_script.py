"""Add the records of a merge to its message in the shell of the hook prepare-commit-msg, before it starts Python.

The merge driver knows the records before git runs the hook. It leaves a script that adds them, for the git process that
is the parent of both. The script does so only if git has staged what was merged, and the message has no other records;
otherwise the hook starts Python, as if there were no script.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.git.answer_script import IS_STARTED, OF_PROCESS, RECORDS
from git_theta_ext.git.entries import REGULAR
from git_theta_ext.util.files import replace_content

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_MOST_FILES = 100
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")
"""Paths that git lists as they are."""
_SCRIPT = """\
# Records merges by git process {git}.
{is_started}
{of_process} &&
[ $# -eq 2 ] && [ "$2" = merge ] && ! grep -q "^{key}:" "$1" &&
[ "$(git --literal-pathspecs ls-files --stage -- {paths})" = {staged} ] &&
{{ [ -z "$(tail -c 1 "$1")" ] || echo >>"$1"; }} &&
git interpret-trailers --in-place --if-exists addIfDifferent {trailers} "$1" &&
rm -f -- "$d/merging/records/$PPID" && exit 0
"""


def write_records(git_dir: Path, git: str, key: str, records: Sequence[str], staged: Mapping[str, str]) -> None:
    """Let the shell of the hook add records to the message of a merge; if that is not possible, Python adds them.

    Args:
        git_dir: The repository's ``$GIT_DIR``.
        git: The git process that merges, as ``git_theta_ext.git.answers.calling_git`` returns it.
        key: The key of the trailers.
        records: Their values.
        staged: Path to the object id of each file that has to be staged.
    """
    if not records or len(staged) > _MOST_FILES or not all(map(_PLAIN.fullmatch, staged)):
        return
    pid, start, boot = git.split("-", 2)
    paths = sorted(staged)
    script = _SCRIPT.format(
        git=pid,
        is_started=IS_STARTED % start,
        of_process=OF_PROCESS % quote(boot),
        key=key,
        paths=" ".join(map(quote, paths)),
        staged=quote("\n".join(f"{REGULAR} {staged[path]} 0\t{path}" for path in paths)),
        trailers=" ".join(f"--trailer {quote(f'{key}: {record}')}" for record in records),
    )
    with suppress(OSError):
        file = git_dir.joinpath(*RECORDS, pid)
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_content(file, os.fsencode(script))


def drop_records(git_dir: Path) -> None:
    """Remove the scripts of all git processes, as other records are to be added.

    Args:
        git_dir: The repository's ``$GIT_DIR``.

    Raises:
        OSError: One cannot be removed.
    """
    folder = git_dir.joinpath(*RECORDS)
    if folder.is_dir():
        for file in folder.iterdir():
            file.unlink(missing_ok=True)
