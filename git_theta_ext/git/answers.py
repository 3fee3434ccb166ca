"""Keep answers to calls that git's merge driver will get, and give them.

Git starts a merge driver for each file. What one call merges for other files is kept in
``$GIT_DIR/theta/merging/answers``. A later call takes it if it comes from the same git process, with the same path and
the same content of all three files, and it takes it only once, as a git process can merge more than once. Every other
call merges as if nothing had been kept.

A call that takes an answer needs this module and no other, so this module imports as little as possible.
"""

from __future__ import annotations

import os
from binascii import crc32

TYPE_CHECKING = False  # importing typing takes longer than an answer
if TYPE_CHECKING:
    from collections.abc import Sequence

_FOLDER = ("theta", "merging", "answers")
_WORDS = 5
_MERGED = ".merged"
_SHELLS = (b"sh", b"dash", b"bash", b"busybox")
_GENERATIONS = 3
_BOOT = "/proc/sys/kernel/random/boot_id"


def take_answer(words: Sequence[str]) -> int | None:
    """Answer a call of the merge driver if its answer was kept: replace our file, and return the exit code.

    Args:
        words: The arguments of the merge driver: the values of ``%O %A %B %L %P``.

    Returns:
        None if no answer was kept for this call; then our file is unchanged.
    """
    try:
        git = calling_git()
        if git is None or len(words) != _WORDS:
            return None
        base, ours, theirs, marker_size, path = words
        folder = os.path.join(_git_dir(), *_FOLDER, git)
        name = os.path.join(folder, _name(path))
        kept = _read(name)
        # A version that is longer than all that was asked is another one, and may be a file of any size.
        versions = [_read(file, len(kept)) for file in (base, ours, theirs)]
        if kept[:-1] != _question(path, marker_size, versions):
            return None
        os.unlink(name)
        os.replace(name + _MERGED, ours)
    except (OSError, ValueError):  # ValueError: an argument cannot be encoded as it was
        return None
    _remove_if_empty(folder)
    return int(kept[-1:])


def keep_answer(  # noqa: PLR0913 - named, and an answer has these parts
    git_dir: str, git: str, *, path: str, marker_size: str, versions: Sequence[bytes], merged: bytes, code: int
) -> None:
    """Keep the answer to a call that the merge driver will get.

    Args:
        git_dir: The repository's ``$GIT_DIR``.
        git: The git process that will make the call, as ``calling_git`` returns it.
        path: The value of ``%P``.
        marker_size: The value of ``%L``.
        versions: The content of the common ancestor's, our and their file.
        merged: The content of the merged file.
        code: The exit code, 0 or 1.

    Raises:
        OSError: It cannot be written.
    """
    folder = os.path.join(git_dir, *_FOLDER, git)
    os.makedirs(folder, exist_ok=True)
    name = os.path.join(folder, _name(path))
    # A killed process may leave the answer without the question, and never the other way round.
    for file, content in (
        (name + _MERGED, merged),
        (name, _question(path, marker_size, versions) + b"%d" % code),
    ):
        with open(file, "wb") as opened:
            opened.write(content)


def has_answer(git_dir: str, git: str, path: str) -> bool:
    """Return whether an answer is kept for a path; see ``keep_answer``."""
    return os.path.exists(os.path.join(git_dir, *_FOLDER, git, _name(path)))


def drop_answers(git_dir: str, git: str) -> None:
    """Remove the answers that are kept for other git processes, which left them.

    Args:
        git_dir: The repository's ``$GIT_DIR``.
        git: The git process whose answers are kept.
    """
    top = os.path.join(git_dir, *_FOLDER)
    try:
        for other in set(os.listdir(top)) - {git}:
            for name in os.listdir(os.path.join(top, other)):
                os.unlink(os.path.join(top, other, name))
            _remove_if_empty(os.path.join(top, other))
    except OSError:
        pass  # there are none, or another process removes them


def calling_git() -> str | None:
    """Return a name of the git process that runs this merge driver; None if it is not certain.

    No other process has this name, not even after the machine was restarted.
    """
    try:
        pid = os.getppid()
        for _ in range(_GENERATIONS):
            # The line is "pid (name) state parent ..." with the start time in field 22; the name may have parentheses.
            head, _, tail = _read(f"/proc/{pid}/stat").rpartition(b")")
            fields = tail.split()
            if head.partition(b"(")[2] not in _SHELLS:
                return f"{pid}-{int(fields[19])}-{_read(_BOOT).decode().strip()}"
            pid = int(fields[1])
    except (OSError, ValueError, IndexError):
        pass
    return None


def _git_dir() -> str:
    """Return the ``$GIT_DIR`` of a work tree from whose top git runs this process."""
    named = os.environ.get("GIT_DIR")
    if named or os.path.isdir(".git"):
        return named or ".git"
    return os.fsdecode(_read(".git").removeprefix(b"gitdir: ").removesuffix(b"\n"))


def _name(path: str) -> str:
    return f"{crc32(os.fsencode(path)):08x}"


def _question(path: str, marker_size: str, versions: Sequence[bytes]) -> bytes:
    """Return what an answer belongs to."""
    parts = (os.fsencode(path), os.fsencode(marker_size), *versions)
    return b"".join(b"%d\n%b" % (len(part), part) for part in parts)


def _read(name: str, most: int = -1) -> bytes:
    with open(name, "rb") as file:
        return file.read(most)


def _remove_if_empty(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:
        pass
