"""Find out what the git that runs a filter is doing: its command, and whether the filter's input is a given file.

Git's documentation says that a filter should not access the file on disk, because its input may have other content
(``hash-object --path``, a merge that renormalizes). The input is the file if that git process holds the file open or
mapped while it sends the content.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from git_theta_ext.git.process_table import PROC, ancestors, children
from git_theta_ext.git.program import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_theta_ext.git.process_table import Process

_MAX_FILES = 4096
_MAX_MAPS = 65536
_MAP_COLUMNS = 6
_GENERATIONS = 4
_HOOK_GENERATIONS = 16
_PUSH_WITH_VALUE = frozenset({b"-o", b"--push-option", b"--receive-pack", b"--exec", b"--repo"})
_SHELLS = frozenset({b"sh", b"dash", b"bash", b"busybox"})
_OURS = frozenset({b"git-theta", b"git-merge-theta"})
_EXEC_PATH = "git-core"
"""The directory of git's own programs, which git puts first in the ``PATH`` of the programs that it runs."""
_QUIET = frozenset({b"--quiet", b"--no-progress"})
_SHORT_WITH_VALUE = {
    b"checkout": b"bB",
    b"cherry-pick": b"mXS",
    b"clone": b"bcouj",
    b"commit": b"mFCctSu",
    b"fetch": b"jo",
    b"merge": b"msXFS",
    b"pull": b"sXSjo",
    b"push": b"o",
    b"rebase": b"sXxCS",
    b"switch": b"cC",
}
"""By command, the letters of options whose value may follow in the same argument, so that it names no more options."""
_WITH_VALUE = frozenset(
    {b"-c", b"-C", b"--git-dir", b"--work-tree", b"--namespace", b"--super-prefix", b"--config-env", b"--attr-source"}
)
"""Git's own options (git(1)) whose value is the next argument."""


def holds_open(stat: os.stat_result, pid: int, proc: Path = PROC) -> bool:
    """Return whether a process, or one of its ancestors, is a git that holds a file open or mapped.

    A shell and the git that looks up ``git theta`` run between the git that sends the content and the filter.

    Args:
        stat: The file's stat data.
        pid: The caller's parent process.
        proc: The mount point of the proc file system.

    Returns:
        True only if that is certain; False as well if there is no proc file system or it cannot be read.
    """
    gits = (proc / str(git.pid) for git in _gits(pid, proc))
    return any(_has_open(git, stat) or _has_mapped(git, stat) for git in gits)


def runs_filter(pid: int, proc: Path = PROC) -> bool:
    """Return whether a git process has started our filter, as far as the system lists its children.

    Args:
        pid: The git process.
        proc: The mount point of the proc file system.
    """
    command = f"{PROGRAM} filter-process".encode()  # the end of the shell's command, and then of Python's
    return any(b" ".join(child.words[-2:]).endswith(command) for child in children(pid, proc))


def calling_command(pid: int, proc: Path = PROC) -> str | None:
    """Return the command of the git that runs a filter, such as ``diff``.

    Args:
        pid: The filter's parent process.
        proc: The mount point of the proc file system.

    Returns:
        The command, or None if it is not certain. Git runs the command of an alias in another git process.
    """
    words = next(calling_commands(pid, proc), None)
    return words[0] if words else None


def calling_commands(pid: int, proc: Path = PROC, generations: int = _GENERATIONS) -> Iterator[tuple[str, ...]]:
    """Yield the commands of the git processes above the caller, the nearest first.

    Args:
        pid: The caller's parent process.
        proc: The mount point of the proc file system.
        generations: Maximum number of processes to look at.

    Yields:
        The command and its arguments, without git's own options. The first process that is neither git nor a shell nor
            git theta ends the search.
    """
    for process, is_git in _callers(pid, proc, generations):
        if process.name in _SHELLS or process.name in _OURS:
            continue
        words = _words(process) if is_git else ()
        if not words:
            return
        if words[0] != b"theta":
            yield tuple(map(os.fsdecode, words))


def pushes_dry(pid: int, proc: Path = PROC) -> bool:
    """Return whether the ``git push`` that runs a hook is a dry run, which git does not report to hooks.

    Any number of hook managers may run between the two.

    Args:
        pid: The hook's parent process.
        proc: The mount point of the proc file system.

    Returns:
        True only if that is certain.
    """
    for process, is_git in _callers(pid, proc, _HOOK_GENERATIONS):
        words = _words(process) if is_git else ()
        if words[:1] == (b"push",):
            return _is_dry(words[1:])
    return False


def wants_quiet(pid: int, proc: Path = PROC) -> bool:
    """Return whether the git that runs a filter has an option that turns progress off.

    Args:
        pid: The filter's parent process.
        proc: The mount point of the proc file system.
    """
    for process in _gits(pid, proc):
        words = _words(process)
        options = words[: words.index(b"--")] if b"--" in words else words
        if not _QUIET.isdisjoint(options) or any(b"q" in _letters(word, words[0]) for word in options):
            return True
    return False


def _letters(word: bytes, command: bytes) -> bytes:
    """Return the letters of the short options in an argument, such as ``fq`` of ``-fq``."""
    letters = word[1:] if word.startswith(b"-") and not word.startswith(b"--") else b""
    valued = (number for number, letter in enumerate(letters) if letter in _SHORT_WITH_VALUE.get(command, b""))
    return letters[: next(valued, len(letters))]


def _is_dry(words: Sequence[bytes]) -> bool:
    dry = False
    arguments = iter(words)
    for word in arguments:
        if word == b"--":
            break
        if word in _PUSH_WITH_VALUE:
            next(arguments, None)
        elif word.startswith(b"--"):
            # Git accepts any unambiguous abbreviation of an option.
            name = word[2:]
            dry = (dry or (len(name) > 1 and b"dry-run".startswith(name))) and not (
                len(name) > len(b"no-d") and b"no-dry-run".startswith(name)
            )
        elif word.startswith(b"-"):
            dry = dry or b"n" in word[1:].partition(b"o")[0]
    return dry


def _words(process: Process) -> tuple[bytes, ...]:
    """Return the command of a git process and its arguments."""
    words = process.words
    while words and words[0].startswith(b"-"):
        words = words[2 if words[0] in _WITH_VALUE else 1 :]
    return words


def _gits(pid: int, proc: Path) -> Iterator[Process]:
    # An editor that starts git also has the user's files open, which does not show what git sends.
    return (process for process, is_git in _callers(pid, proc) if is_git)


def _callers(pid: int, proc: Path, generations: int = _GENERATIONS) -> Iterator[tuple[Process, bool]]:
    """Yield a process and its ancestors, and whether they are git."""
    run_by_git = Path(os.environ.get("PATH", "").partition(os.pathsep)[0]).name == _EXEC_PATH
    for process in ancestors(pid, proc, generations):
        # Git may have any name. It is the first ancestor that is not a shell and does not only look up `git theta`.
        between = process.name in _SHELLS or process.name in _OURS or _words(process)[:1] == (b"theta",)
        yield process, process.name == b"git" or (run_by_git and not between)
        run_by_git = run_by_git and between


def _has_open(process: Path, stat: os.stat_result) -> bool:
    try:
        with os.scandir(process / "fd") as entries:
            return any(_same(entry.path, stat) for entry in islice(entries, _MAX_FILES))
    except OSError:
        return False


def _has_mapped(process: Path, stat: os.stat_result) -> bool:
    inode = b"%d" % stat.st_ino
    try:
        with (process / "maps").open("rb") as maps:
            for line in islice(maps, _MAX_MAPS):
                columns = line.split(maxsplit=_MAP_COLUMNS - 1)
                # On btrfs and overlayfs the device here differs from that of stat, so the file is compared instead.
                if len(columns) == _MAP_COLUMNS and columns[4] == inode and _same(columns[5].rstrip(b"\n"), stat):
                    return True
    except OSError:
        pass
    return False


def _same(path: str | bytes, stat: os.stat_result) -> bool:
    try:
        other = os.stat(path)  # noqa: PTH116 - a path in bytes
    except (OSError, ValueError):
        return False
    return (other.st_dev, other.st_ino) == (stat.st_dev, stat.st_ino)
