"""Answer calls of the merge driver in the shell that git starts anyway, before it starts Python.

Git runs the driver's command in a shell, once for each file. The command that ``git theta install`` sets first runs the
script ``$GIT_DIR/theta/merging/scripts/PID`` of the git process, if there is one. The first call of a merge writes it
when all answers are kept (``git_theta_ext.git.answers``). A call that the script does not answer starts Python.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from git_theta_ext.git.answers import kept_answers
from git_theta_ext.git.objects import blob_id
from git_theta_ext.util.files import replace_content

if TYPE_CHECKING:
    from git_theta_ext.git.answers import Kept

DRIVER = (
    "set -- %O %A %B %L %P;"
    ' s="${GIT_DIR:-.git}/theta/merging/scripts/$PPID"; [ ! -f "$s" ] || . "$s"; exec git-theta merge-driver "$@"'
)
"""The command of the merge driver."""

_SCRIPTS = ("theta", "merging", "scripts")
_SCRIPT = """\
# Answers the calls of the merge driver by git process {git}.
is() {{ [ $# -gt 19 ] && shift 19 && [ "$1" = {start} ]; }} # whether the process is that one, which started then
n=
read -r boot </proc/sys/kernel/random/boot_id && [ "$boot" = {boot} ] &&
read -r stat <"/proc/$PPID/stat" && is ${{stat##*)}} && case $5 in
{answers}
esac
if [ -n "$n" ] && [ "$4" = "$size" ] && [ "$(git hash-object --no-filters -- "$1" "$2" "$3")" = "$ids" ]; then
    mv -f -- {folder}/"$n" "$2" 2>/dev/null && exit "$code"
fi
"""


def write_script(git_dir: Path, git: str, object_format: str) -> None:
    """Let the shell give the answers that are kept for a git process; if that cannot be written, Python gives them.

    Args:
        git_dir: The repository's ``$GIT_DIR``.
        git: The git process, as ``git_theta_ext.git.answers.calling_git`` returns it.
        object_format: ``sha1`` or ``sha256``.
    """
    with suppress(OSError, ValueError):
        kept = list(kept_answers(str(git_dir), git))
        if not kept:
            return
        pid, start, boot = git.split("-", 2)
        answers = b"\n".join(_case(answer, object_format) for answer in kept)
        head, _, tail = _SCRIPT.format(
            git=pid, start=start, boot=quote(boot), folder=quote(str(Path(kept[0].file).parent)), answers="\0"
        ).partition("\0")
        file = git_dir.joinpath(*_SCRIPTS, pid)
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_content(file, os.fsencode(head) + answers + os.fsencode(tail))
        for answer in kept:
            Path(answer.file).unlink()


def drop_scripts(git_dir: Path) -> None:
    """Remove the scripts of git processes that have ended.

    Args:
        git_dir: The repository's ``$GIT_DIR``.
    """
    with suppress(OSError):
        for file in git_dir.joinpath(*_SCRIPTS).iterdir():
            if not Path("/proc", file.name).exists():
                file.unlink()


def _case(answer: Kept, object_format: str) -> bytes:
    ids = "\n".join(blob_id(version, object_format) for version in answer.versions)
    pattern, name = quote(answer.path), quote(Path(answer.merged).name)
    values = f"n={name} size={quote(answer.marker_size)} code={answer.code} ids='{ids}'"
    return os.fsencode(f"{pattern}) {values} ;;")
