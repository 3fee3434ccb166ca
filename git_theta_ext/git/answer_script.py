"""Answer calls of the merge driver and the diff driver in the shell that git starts anyway, before it starts Python.

Git runs a driver's command in a shell, once for each file. The commands that ``git theta install`` sets first run the
script ``$GIT_DIR/theta/merging/scripts/PID`` or ``$GIT_DIR/theta/diffing/scripts/PID`` of the git process, if there is
one. The first call of a merge or a diff writes it when all answers are kept (``git_theta_ext.git.answers``), and a file
for each path below ``PID.calls``, as the shell would parse a script with all answers at each call. A call that the
script does not answer starts Python.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.git.answers import kept_answers
from git_theta_ext.git.objects import blob_id
from git_theta_ext.git.program import FIND
from git_theta_ext.records import dataclass
from git_theta_ext.util.files import replace_content

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_theta_ext.git.answers import Kept

SCRIPTS, CALLS, _LEFT = "scripts", ".calls", ".left"
RECORDS = ("theta", "merging", "records")
"""The folder in ``$GIT_DIR`` with scripts for the hook that records merges; see ``git_theta_ext.git.record_script``."""
CHECKOUTS = ("theta", "checkout", SCRIPTS)
"""The folder in ``$GIT_DIR`` with scripts for the filter; see ``git_theta_ext.operations.merge.checkout_script``."""
RUN_SCRIPT = f's="${{GIT_DIR:-.git}}/theta/%s/scripts/$PPID"; [ ! -f "$s" ] || . "$s"; {FIND}exec '
"""Begins a command that runs the script of the git process first, given the folder in ``$GIT_DIR/theta``."""
FILTER_COMMAND = RUN_SCRIPT % "checkout" + "git-theta filter-process"
"""The command of the filter in git's configuration."""
IS_STARTED = 'is() { [ $# -gt 19 ] && shift 19 && [ "$1" = %s ]; }'
"""Defines a command for ``of_process``, given the start of the process."""
OF_PROCESS = """read -r boot </proc/sys/kernel/random/boot_id && [ "$boot" = %s ] &&
read -r stat <"/proc/$PPID/stat" && is ${stat##*\\)}"""
"""Fails if the parent is not that process of this boot."""
_SCRIPT = """\
# Answers calls of a driver by git process {git}.
{is_started}
code= call="$s{calls}/{path}.sh"
{of_process} && [ -f "$call" ] && . "$call"
if [ "$code" ] && {check} && {give}; then
    read -r left <"$s{left}" && left=$((left - 1)) && echo $left >"$s{left}"
    [ "$left" != 0 ] || {{ rm -rf -- "$s" "$s{calls}" "$s{left}"; rmdir -- {folder} 2>/dev/null; }}
    exit "$code"
fi
"""
_LEAVES = re.compile(r"^/|(^|/)\.\.(/|$)")
"""Paths that git compares outside of a work tree may leave the folder of answers."""
_CASES = """\
case {call} in
{answers}
esac
"""


@dataclass(frozen=True)
class Driver:
    """A driver of git whose calls the shell answers.

    Attributes:
        command: The command in git's configuration.
        folder: The folder in ``$GIT_DIR`` with what the driver keeps.
        path: A word of the shell, made from the driver's arguments: the path of the file.
        call: A word of the shell that is another one for each call, made from the driver's arguments.
        check: A command that fails if the files are not those of which the answer is kept.
        give: A command that gives the answer, and lets no other call have it.
    """

    command: str
    folder: tuple[str, ...]
    path: str
    call: str
    check: str
    give: str


MERGE = Driver(
    command="set -- %O %A %B %L %P; " + RUN_SCRIPT % "merging" + 'git-theta merge-driver "$@"',
    folder=("theta", "merging"),
    path="$5",
    call='"$4 $5"',
    check='[ "$(git hash-object --no-filters -- "$1" "$2" "$3")" = "$ids" ]',
    give=': >"$call" && printf %s "$merged" >"$2"',
)

DIFF = Driver(
    command=RUN_SCRIPT % "diffing" + "git-theta diff-driver",  # git appends "$@"
    folder=("theta", "diffing"),
    path="$1",
    call='"$3 $4 $6 $7 $1//${8-}"',  # no path has "//"
    check='[ -f "$file" ] && { [ -z "$new" ] || '
    '[ "$(LC_ALL=C stat -c "%d %i %s %.9Y %.9Z" -- "$5" 2>/dev/null)" = "$new" ]; }',
    # 141: the reader has seen enough, as with `| head`; git notices by itself.
    give='{ rm -f -- "$file" && { tail -c "$nbytes" || [ $? -eq 141 ]; }; } <"$file"',
)


@dataclass(frozen=True)
class ShellAnswer:
    """An answer that the shell gives.

    Attributes:
        path: The value of the driver's ``path``.
        call: The value of the driver's ``call``.
        code: The exit code.
        values: Values of other variables in the driver's commands.
    """

    path: str
    call: str
    code: int
    values: dict[str, str]

    def case(self) -> bytes:
        """Return the pattern of the call, and the variables that it sets."""
        values = {"code": str(self.code), **self.values}
        return os.fsencode(f"{quote(self.call)}) {' '.join(f'{name}={quote(values[name])}' for name in values)} ;;")


def text_answer(words: Sequence[str], question: bytes, file: str, nbytes: int, code: int) -> ShellAnswer | None:
    """Return the answer to a call of the diff driver; None if the shell cannot give it.

    Args:
        words: The arguments of the diff driver.
        question: As ``git_theta_ext.git.answers.diff_question`` returns it.
        file: The file with the answer, as ``git_theta_ext.git.answers.keep_text`` returns it.
        nbytes: The size of the text in bytes.
        code: The exit code.
    """
    path, _, old_id, old_mode, _, new_id, new_mode, *renamed = words
    if not old_id.strip("0"):
        return None
    new = ""
    if not new_id.strip("0"):  # then the stat data of the newer version are the last of the question
        *ids, mtime, ctime = question.rpartition(b"\n")[2].decode().split()
        new = " ".join([*ids, *(f"{time[:-9]}.{time[-9:]}" for time in (mtime, ctime))])
    call = f"{old_id} {old_mode} {new_id} {new_mode} {path}//{''.join(renamed[:1])}"
    return ShellAnswer(path, call, code, {"file": file, "nbytes": str(nbytes), "new": new})


def write_merges(git_dir: Path, git: str, object_format: str) -> None:
    """Let the shell give the answers of the merge driver that are kept for a git process.

    If that cannot be written, Python gives them.

    Args:
        git_dir: The repository's ``$GIT_DIR``.
        git: The git process, as ``git_theta_ext.git.answers.calling_git`` returns it.
        object_format: ``sha1`` or ``sha256``.
    """
    with suppress(OSError, ValueError):
        kept = list(kept_answers(str(git_dir), git))
        answers = [(answer, _merge_answer(answer, object_format)) for answer in kept]
        _write(git_dir, git, MERGE, [given for _, given in answers if given is not None])
        for answer in (answer for answer, given in answers if given is not None):
            Path(answer.file).unlink()
            Path(answer.merged).unlink()


def write_texts(git_dir: Path, git: str, answers: Sequence[ShellAnswer]) -> None:
    """Let the shell give answers of the diff driver; if that cannot be written, Python gives them.

    Args:
        git_dir: The repository's ``$GIT_DIR``.
        git: The git process, as ``git_theta_ext.git.answers.calling_git`` returns it.
        answers: What ``text_answer`` returned.
    """
    with suppress(OSError, ValueError):
        _write(git_dir, git, DIFF, answers)


def _merge_answer(answer: Kept, object_format: str) -> ShellAnswer | None:
    """Return the answer to a call of the merge driver; None if the shell cannot hold the merged file."""
    merged = Path(answer.merged).read_bytes()
    if b"\0" in merged:
        return None
    ids = "\n".join(blob_id(version, object_format) for version in answer.versions)
    call = f"{answer.marker_size} {answer.path}"
    return ShellAnswer(answer.path, call, answer.code, {"ids": ids, "merged": os.fsdecode(merged)})


def _write(git_dir: Path, git: str, driver: Driver, answers: Sequence[ShellAnswer]) -> None:
    by_path: dict[str, list[bytes]] = {}
    for answer in answers:
        if not _LEAVES.search(answer.path):
            by_path.setdefault(answer.path, []).append(answer.case())
    if not by_path:
        return
    pid, start, boot = git.split("-", 2)
    script = git_dir.joinpath(*driver.folder, SCRIPTS, pid)
    remove_script(script)
    for path, cases in by_path.items():
        file = Path(f"{script}{CALLS}/{path}.sh")
        file.parent.mkdir(parents=True, exist_ok=True)
        head, _, tail = _CASES.format(call=driver.call, answers="\0").partition("\0")
        file.write_bytes(os.fsencode(head) + b"\n".join(cases) + os.fsencode(tail))
    Path(f"{script}{_LEFT}").write_text(f"{sum(map(len, by_path.values()))}\n", "ascii")
    text = _SCRIPT.format(
        git=pid,
        is_started=IS_STARTED % start,
        of_process=OF_PROCESS % quote(boot),
        calls=CALLS,
        left=_LEFT,
        folder=quote(str(git_dir.joinpath(*driver.folder, "answers", git))),
        path=driver.path,
        check=driver.check,
        give=driver.give,
    )
    replace_content(script, os.fsencode(text))


def remove_script(script: Path) -> None:
    """Remove the script of a git process, and then its answers."""
    script.unlink(missing_ok=True)
    Path(f"{script}{_LEFT}").unlink(missing_ok=True)
    calls = Path(f"{script}{CALLS}")
    if calls.is_dir():
        from shutil import rmtree  # which imports compressors, and is needed only if git did not ask for all answers

        rmtree(calls)


def drop_scripts(git_dir: Path) -> None:
    """Remove the scripts of git processes that have ended.

    Args:
        git_dir: The repository's ``$GIT_DIR``.
    """
    for folder in ((*MERGE.folder, SCRIPTS), (*DIFF.folder, SCRIPTS), CHECKOUTS, RECORDS):
        with suppress(OSError):
            for pid in {file.name.partition(".")[0] for file in git_dir.joinpath(*folder).iterdir()}:
                if not Path("/proc", pid).exists():
                    remove_script(git_dir.joinpath(*folder, pid))
